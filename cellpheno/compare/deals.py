"""How wells are dealt to folds: whole groups, or the sets of classes that wells have."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.classes import label_parts, membership


def classes_of(labels: "pd.Series[str]", multilabel: bool) -> pd.DataFrame:
    """Whether each well (a row) has each class (a column, sorted).

    Examples
    --------
    >>> classes_of(pd.Series(["b", "a|b"]), True).sum().to_dict()
    {'a': 1, 'b': 2}
    """
    texts = labels.astype(str).tolist()
    names = sorted({part for text in set(texts) for part in label_parts(text, multilabel)})
    return pd.DataFrame(membership(texts, names, multilabel), index=labels.index, columns=names)


def deal_groups(
    groups: "pd.Series[str]", held: pd.DataFrame, n_folds: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Fold of each well: whole groups, largest first, to the fold that holds least of the group's classes."""
    names = groups.astype(str)
    counts = held.groupby(names, sort=True).sum()  # (groups, K)
    sizes = names.value_counts()
    counts = counts.iloc[rng.permutation(len(counts))]
    counts = counts.iloc[np.argsort(-sizes[counts.index].to_numpy(), kind="stable")]
    load = np.zeros((n_folds, counts.shape[1]))
    fold_of: dict[str, int] = {}
    for name, row in zip(counts.index, counts.to_numpy(np.float64), strict=True):
        fold = min(range(n_folds), key=lambda f: (load[f] @ row, load[f].sum(), f))
        load[fold] += row
        fold_of[str(name)] = fold
    return np.array([fold_of[name] for name in names], dtype=np.intp)


def deal_sets(
    held: pd.DataFrame, strata: Sequence[Hashable], n_folds: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Fold of each well: the rarest class first, to the fold that holds least of it, then of the well's own stratum."""
    table = held.to_numpy()  # (n, K)
    place = {stratum: i for i, stratum in enumerate(dict.fromkeys(strata))}
    code = np.array([place[stratum] for stratum in strata])
    order, fold = rng.permutation(len(table)), np.full(len(table), -1, dtype=np.intp)
    turn = rng.permutation(n_folds)
    while (waiting := order[fold[order] < 0]).size:
        left = table[waiting].sum(axis=0)
        rarest = int(np.where(left > 0, left, len(table) + 1).argmin()) if left.any() else None
        for i in waiting if rarest is None else waiting[table[waiting, rarest]]:
            alike, dealt = code == code[i], [fold == f for f in turn]
            of_class = [0 if rarest is None else int(table[own, rarest].sum()) for own in dealt]
            counts = [(n, int((own & alike).sum()), int(own.sum())) for n, own in zip(of_class, dealt, strict=True)]
            fold[i] = turn[min(range(n_folds), key=counts.__getitem__)]
    return _evened(table, fold, n_folds)


def _evened(table: NDArray[np.bool_], fold: NDArray[np.intp], n_folds: int) -> NDArray[np.intp]:
    """Move wells, one after another, as long as that makes the classes more even: rare ones were dealt blind to them.

    Each move lowers the sum of the squared counts (fold, class), so they end; none takes a class to one fold.
    """
    counts = np.stack([table[fold == f].sum(axis=0) for f in range(n_folds)])  # (F, K)
    fold, moved = fold.copy(), True
    while moved:
        moved = False
        for i, own in enumerate(table):
            there = counts[:, own]  # (F, classes of the well)
            elsewhere = there.sum(axis=0) - there > 1  # a well of the class stays out of the fold
            gain = np.where(elsewhere.all(axis=1), (there[fold[i]] - there).sum(axis=1) - own.sum(), 0)
            best = int(gain.argmax())
            if gain[best] > 0:
                counts[fold[i]] -= own
                counts[best] += own
                fold[i], moved = best, True
    return fold
