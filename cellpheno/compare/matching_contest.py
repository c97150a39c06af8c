"""Not-same-compound matching of every contestant on features, on the wells of a run.

No label is learned: features are selected, scaled and whitened over all labelled wells at once, without a look at their
class, and without a scale of a plate's own, since plates that hold few classes have none. So there are no folds.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cellpheno.compare.matching import MATCH_COLUMNS, SCORE_COLUMNS, Matching, match_treatments, treatment_profiles
from cellpheno.compare.scaled_features import chosen_columns, known_wells, scaled_features, with_profiles
from cellpheno.compare.splits import LABEL, labelled_wells
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL

NO_ANGLE = "fewer than two features vary: no angle between profiles"


class Question(NamedTuple):
    """What is matched with what; columns of the plate map with their ``Metadata_``."""

    treatment: list[str]
    compound: str
    batch: str | None
    without: list[str]


def matching_question(
    settings: Mapping[str, Any], wells: pd.DataFrame, classes: Sequence[str], multilabel: bool
) -> Question:
    """Read the setting ``match``: which treatments are matched, and what a neighbour may not share.

    Parameters
    ----------
    settings : mapping
        ``treatment``, columns that make a treatment; ``compound``, one of its columns or a coarser one; ``batch``, a
        column, optional; ``without``, classes whose treatments are not matched, such as controls, optional. Columns
        are those of the plate map, without ``Metadata_``.
    wells : DataFrame, a row a well
    classes : sequence of str
    multilabel : bool
        A well may have several classes.

    Raises
    ------
    InputError
        With all faults: keys, columns or classes that do not exist, wells of no compound, a treatment of several
        classes or compounds, several classes a well.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02"], "label": ["m", "n"],
    ...                       "Metadata_drug": ["x", "y"]})
    >>> matching_question({"treatment": ["drug"], "compound": "drug"}, wells, ["m", "n"], False).compound
    'Metadata_drug'
    """
    known = ("treatment", "compound", "batch", "without")
    faults = [f"match.{key}: no such key; there are {', '.join(known)}" for key in settings if key not in known]
    faults += [f"match.{key} is missing: give a column of the plate map" for key in known[:2] if not settings.get(key)]
    if multilabel:
        faults.append("match with label_separator: a treatment is matched by its one class; give match=null")
    if faults:
        raise InputError(*faults)
    texts = settings["treatment"]
    treatment = [f"Metadata_{name}" for name in ([texts] if isinstance(texts, str) else texts)]
    batch = settings.get("batch")
    about = Question(
        treatment,
        f"Metadata_{settings['compound']}",
        None if batch is None else f"Metadata_{batch}",
        list(settings.get("without") or []),
    )
    faults = _column_faults(about, wells)
    faults += [
        f"match.without: {name!r} is no class; the classes are {', '.join(classes)}"
        for name in about.without
        if name not in classes
    ]
    if faults := faults or _well_faults(about, wells):
        raise InputError(*faults)
    return about


def match_contestants(
    wells: pd.DataFrame,
    features: pd.DataFrame,
    baselines: Mapping[str, Callable[..., Any]],
    question: Question,
    junk: Sequence[str] = (),
) -> Matching:
    """Match the treatments by the features of every contestant that has some.

    Parameters
    ----------
    wells : DataFrame, a row a well
        ``Metadata_Plate``, ``Metadata_Well``, ``label`` and the columns of the question.
    features : DataFrame, a row a well
        As from `cellpheno.profiles.aggregate.aggregate`, for every well of ``wells``.
    baselines : mapping of name to callable
        `cellpheno.compare.baselines.fit_predict` with its settings; of others nothing is matched.
    question : Question
        As from `matching_question`.
    junk : sequence of str
        Classes that are no answer: their wells are scaled with the others and not matched.

    Returns
    -------
    Matching
        ``matches`` has a row a contestant, kind (``NSC``; ``NSCB`` where there is a batch) and treatment, with
        treatments as text; ``scores`` as from `match_treatments`. A treatment without a known well is not matched,
        and its row says so; a contestant with fewer than two features that vary has no angles, and its score says so.

    Raises
    ------
    InputError
        As `match_treatments`, or if a pattern of a contestant's columns matches nothing.
    """
    extra = [c for c in features if c not in wells or c in (PLATE, WELL)]
    table = labelled_wells(wells).merge(features[extra], on=[PLATE, WELL], how="left", validate="one_to_one")
    spared = {*junk, *question.without}
    matches = [pd.DataFrame(columns=["contestant", "kind", *MATCH_COLUMNS])]
    scores = [pd.DataFrame(columns=SCORE_COLUMNS)]
    for name, baseline in baselines.items():
        given = {key: parameter.default for key, parameter in inspect.signature(baseline).parameters.items()}
        if "select" not in given:  # it looks at no feature of a cell
            continue
        profiled, columns = _profiles(table, given)
        profiles = profiled[~profiled[LABEL].isin(spared)] if columns else profiled.iloc[:0]
        own = treatment_profiles(profiles, columns, question.treatment, _kept(question)) if len(profiles) else profiles
        lost = _lost(table[~table[LABEL].isin(spared)], own, question)
        for batch in [None] if question.batch is None else [None, question.batch]:
            kind = "NSC" if batch is None else "NSCB"
            if len(columns) < 2:
                n = len(lost) + len(own)
                row = (name, kind, "accuracy", "", np.nan, np.nan, np.nan, 0, n, NO_ANGLE)
                scores.append(pd.DataFrame([row], columns=SCORE_COLUMNS))
                continue
            found = match_treatments(
                own, columns, label=LABEL, compound=question.compound, batch=batch, contestant=name
            )
            texts = _texts(own, question.treatment)
            told = found.matches.assign(
                treatment=texts, neighbour=[texts[i] if i >= 0 else "" for i in found.matches["neighbour"]]
            )
            matches.append(pd.concat([told, lost]).assign(contestant=name, kind=kind))
            scores.append(_with_lost(found.scores, lost))
    whole = pd.concat(matches, ignore_index=True) if len(matches) > 1 else matches[0]
    return Matching(
        whole[["contestant", "kind", *MATCH_COLUMNS]],
        pd.concat(scores[1:], ignore_index=True) if len(scores) > 1 else scores[0],
    )


def _profiles(table: pd.DataFrame, given: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """Known wells with their scaled features, and the features' names; the settings are those of `fit_predict`."""
    measured = table if given["profiles"] is None else with_profiles(table, given["profiles"]())
    names = chosen_columns(measured, given["columns"], given["without"])
    known = known_wells(measured, names)
    fitted = measured[known]
    kept = list(given["select"](fitted[names]).kept)
    if not kept:
        return table.iloc[:0], []
    options = {key: given[key] for key in ("normalize", "sphere", "clip")}
    (x,) = scaled_features(fitted, [fitted], kept, **options)
    columns = [f"feature_{j}" for j in range(x.shape[1])]  # a whitening gives them no names
    about = table.loc[known, [c for c in table if c == LABEL or (str(c).startswith("Metadata_") and c not in names)]]
    return pd.concat([about, pd.DataFrame(x, index=about.index, columns=columns)], axis=1), columns


def _kept(question: Question) -> list[str]:
    return list(dict.fromkeys([LABEL, question.compound, *([question.batch] if question.batch else [])]))


def _texts(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    return [" ".join(map(str, row)) for row in table[list(columns)].to_numpy(dtype=object)]


def _lost(table: pd.DataFrame, own: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Treatments of which no well is known, as rows of the matches."""
    there = set(_texts(own, question.treatment)) if len(own) else set()
    rows = table.assign(treatment=_texts(table, question.treatment)).drop_duplicates("treatment")
    rows = rows[~rows["treatment"].isin(there)].sort_values("treatment")
    told = rows[["treatment", question.compound, LABEL]].set_axis(["treatment", "compound", "true"], axis=1)
    return told.assign(batch="", pred="", neighbour="", distance=np.nan, note="no well of it was measured")


def _with_lost(scores: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """Count treatments without a well among all, and name them beside the scores of the whole."""
    if lost.empty:
        return scores
    whole = scores["class"] == ""
    told = f"not measured, in no score: {', '.join(lost['treatment'])}"
    notes = [
        f"{note}; {told}".removeprefix("; ") if all_ else note for note, all_ in zip(scores["note"], whole, strict=True)
    ]
    return scores.assign(note=notes)


def _column_faults(question: Question, wells: pd.DataFrame) -> list[str]:
    columns = [str(c).removeprefix("Metadata_") for c in wells if str(c).startswith("Metadata_")]
    faults = []
    for key, names in zip(("treatment", "compound", "batch"), question[:3], strict=True):
        for column in [names] if isinstance(names, str) else names or []:
            if column not in wells:
                name = column.removeprefix("Metadata_")
                near = difflib.get_close_matches(name, columns, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                faults.append(f"match.{key}={name}: the plate map has no such column; its columns: {columns}{hint}")
    return faults


def _well_faults(question: Question, wells: pd.DataFrame) -> list[str]:
    """Wells that no treatment can be made of, and treatments that are of several classes or compounds."""
    rows = labelled_wells(wells)
    rows = rows[~rows[LABEL].isin(question.without)]
    faults = []
    for column in dict.fromkeys([*question.treatment, *_kept(question)]):
        empty = rows[rows[column].fillna("").astype(str) == ""]
        if len(empty):
            names = [f"{p} {w}" for p, w in empty[[PLATE, WELL]].to_numpy()]
            told = f"match: labelled wells without {column}: {', '.join(names[:8])} ({len(names)} in all)"
            faults.append(f"{told}; fill the plate map in, or leave their class out: match.without=[CLASS]")
    named = rows.assign(treatment=_texts(rows, question.treatment))
    for column, word in ((LABEL, "classes"), (question.compound, "compounds")):
        several = named.groupby("treatment")[column].agg(lambda values: sorted(set(values)))
        faults += [
            f"match: the treatment {treatment!r} has several {word}, {', '.join(map(str, values))}; "
            "name the columns that make a treatment: match.treatment=[...]"
            for treatment, values in several.items()
            if len(values) > 1
        ]
    return faults
