"""What can be wrong with a contest, said before hours of fitting: its settings, its names, the columns of its wells."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cellpheno.compare.assay import doses
from cellpheno.compare.matching_contest import Question, matching_question
from cellpheno.compare.tuning import check_grids
from cellpheno.errors import InputError
from cellpheno.profiles.aggregate import STATISTICS
from cellpheno.profiles.elsewhere import check_profiles
from cellpheno.stages.run_folder import Plan
from cellpheno.stages.well_features import Baselines, elsewhere


def check_contest(
    baselines: Baselines, aggregation: Sequence[str], tuning: float, dose: str | None, label_separator: str | None
) -> None:
    """Refuse a contest that cannot be held, whatever the wells; `run` asks before its first step.

    Raises
    ------
    InputError
        With all faults that can be told without plates.
    """
    if dose is not None and label_separator is not None:
        raise InputError(
            f"dose={dose} with label_separator={label_separator!r}: a dose-response is of two classes, negative and "
            "positive, and one class a well; give dose=null or label_separator=null"
        )
    check_grids(baselines)
    for path, _ in elsewhere(baselines).values():
        check_profiles(path)
    if faults := settings_faults(aggregation, tuning):
        raise InputError(*faults)


def check_names(baselines: Baselines, contestants: Mapping[str, Any], contestant: str, reference: str) -> None:
    """Refuse names of contestants that do not fit each other; `run` asks before it trains them.

    Raises
    ------
    InputError
        With all faults.
    """
    faults = name_faults([contestant, *contestants], baselines, reference)
    if contestant in contestants:
        faults.append(f"contestant={contestant}: a contestant of contestants has that name too; give another")
    if faults:
        raise InputError(*faults)


def check_wells(
    plan: Plan, unit: str, dose: str | None, dose_by: str | None, match: Mapping[str, Any] | None
) -> Question | None:
    """Refuse columns that the scores need and the wells lack; `run` asks before hours of training.

    Returns
    -------
    Question, optional
        What ``match`` asks.

    Raises
    ------
    InputError
        As `matching_question`, or where there is no such column or dose.
    """
    if faults := _column_faults(plan, unit, dose, dose_by):
        raise InputError(*faults)
    return None if match is None else matching_question(match, plan.usable, plan.classes, plan.multilabel)


def name_faults(networks: Iterable[str], baselines: Baselines, reference: str) -> list[str]:
    """Names of contestants that are given twice, or that none has."""
    both = sorted(set(networks) & set(baselines))
    faults = [f"{', '.join(both)}: a network and a baseline of one name; rename one of them"] if both else []
    if not (known := [*networks, *baselines]):
        return ["there is nothing to compare: no network has predicted, and baselines=[]; give baselines=[engineered]"]
    return faults + ([] if reference in known else [f"reference={reference}: wanted one of {', '.join(known)}"])


def _column_faults(plan: Plan, unit: str, dose: str | None, dose_by: str | None) -> list[str]:
    """What is wrong with the columns that the scores need, said before hours of fitting."""
    columns = [str(c) for c in plan.usable if str(c).startswith("Metadata_")]
    wanted = f"unit={unit}: wanted well or a column of the wells: {', '.join(columns)}"
    faults = [] if unit in ("well", *columns) else [wanted]
    answers = [name for name in plan.classes if name not in plan.junk]
    faults += dose_faults(columns, answers, dose, dose_by)
    if dose is not None and not faults:
        doses(plan.usable, f"Metadata_{dose}")
    return faults


def dose_faults(columns: Sequence[str], answers: Sequence[str], dose: str | None, dose_by: str | None) -> list[str]:
    """What is wrong with a dose-response of wells that have these columns and classes.

    Examples
    --------
    >>> dose_faults(["Metadata_Well", "Metadata_um"], ["a", "b"], "mM", None)
    ['dose=mM: the wells have no column Metadata_mM, but Metadata_Well, Metadata_um']
    """
    faults = [
        f"{setting}={name}: the wells have no column Metadata_{name}, but {', '.join(columns)}"
        for setting, name in (("dose", dose), ("dose_by", dose_by))
        if name is not None and f"Metadata_{name}" not in columns
    ]
    if dose is not None and len(answers) != 2:
        faults.append(f"dose={dose}: a dose-response is of two classes, (negative, positive), not of {list(answers)}")
    return faults


def settings_faults(aggregation: Sequence[str], tuning: float) -> list[str]:
    """What is wrong with the settings of the contest.

    Examples
    --------
    >>> settings_faults(["mode"], 0.9)
    ["aggregation=['mode']: wanted one or more of median, mean, mad, std", 'tuning=0.9: wanted 0 to 0.5']
    """
    good = bool(aggregation) and set(aggregation) <= set(STATISTICS) and len(set(aggregation)) == len(aggregation)
    told = f"aggregation={list(aggregation)}: wanted one or more of {', '.join(STATISTICS)}"
    return ([] if good else [told]) + ([] if 0 <= tuning <= 0.5 else [f"tuning={tuning}: wanted 0 to 0.5"])
