"""How much a contestant rests on each of its features: what its held-out wells lose without the feature's values.

In each fold the held-out wells get, one feature at a time, the values of training wells drawn at random, and the rise
of their log loss is that feature's importance. Training wells give the values, since the held-out wells of a fold may
all be of one class, and shuffled among themselves they would keep what tells it. It works for every classifier and
needs no other fit. Features that go together share their importance: each alone may be spared for the others, so a low
figure does not say that a feature differs in nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.classes import membership
from cellpheno.compare.classifiers import Decision
from cellpheno.compare.metrics import Flags, Floats, Ints, log_losses

COLUMNS = ["contestant", "split", "feature", "importance", "low", "high", "n_folds"]
N_DRAWS = 2  # training wells that lend each held-out well their value; more folds and repeats draw more
NUMBERS_AT_ONCE = 2**20  # bounds the memory: 8 MB of features


class Fitted(NamedTuple):
    """A contestant that was fitted in one fold."""

    features: tuple[str, ...]  # those that the selection left, d
    train: Floats  # (n, d) as the classifier learned from them: scaled
    new: Floats  # (m, d) of the test wells that have features
    known: Flags  # which of the test wells these are
    decide: Decision  # from (m, d) to decision values (m, K)


def log_loss_rise(decide: Decision, new: Floats, truth: Ints | Flags, pool: Floats, draws: Ints) -> Floats:
    """Rise of the mean log loss when one feature at a time takes other wells' values.

    Parameters
    ----------
    decide : callable
        From features (m, d) to decision values (m, K).
    new : array of shape (m, d), float64
        Features of wells that the contestant never saw.
    truth : array of shape (m,), int, or (m, K), bool
        Class of each well; or whether it has each class.
    pool : array of shape (n, d), float64
        Wells that lend their values.
    draws : array of shape (r, m), int
        Rows of ``pool``: whose value each well gets, in each of r draws.

    Returns
    -------
    array of shape (d,), float64
        In nats a well, the mean over draws; below 0 where the contestant does better without.

    References
    ----------
    Breiman 2001, Machine Learning 45, 5, doi:10.1023/A:1010933404324

    Examples
    --------
    >>> decide = lambda x: np.stack([x[:, 0], 0 * x[:, 0]], axis=1)  # the second feature is not looked at
    >>> new, pool = np.array([[2.0, 5.0], [-2.0, 7.0]]), np.array([[-2.0, 1.0], [2.0, 1.0]])
    >>> log_loss_rise(decide, new, np.array([0, 1]), pool, np.array([[0, 1]])).tolist()
    [2.0, 0.0]
    """
    (n_draws, n_wells), n_features = draws.shape, new.shape[1]
    before, rise = log_losses(decide(new), truth).mean(), np.empty(n_features)
    step = max(1, NUMBERS_AT_ONCE // max(n_draws * n_wells * n_features, 1))
    for start in range(0, n_features, step):
        some = range(start, min(start + step, n_features))
        changed = np.tile(new, (len(some), n_draws, 1, 1))  # (features, r, m, d)
        for place, j in enumerate(some):
            changed[place, :, :, j] = pool[draws, j]
        several: Ints | Flags = np.concatenate([truth] * (len(some) * n_draws))
        losses = log_losses(decide(changed.reshape(-1, n_features)), several)
        rise[some] = losses.reshape(len(some), -1).mean(axis=1) - before
    return rise


def fold_importance(
    fitted: Fitted, labels: "pd.Series[str]", classes: Sequence[str], multilabel: bool, seed: int
) -> pd.DataFrame:
    """Importance of each feature in one fold.

    Parameters
    ----------
    fitted : Fitted
    labels : Series of str
        Of the test wells; those without a class do not count.
    classes : sequence of str
        In the order of the decision values.
    multilabel : bool
        A well may have several classes.
    seed : int
        Of the draws.

    Returns
    -------
    DataFrame
        ``feature, rise``; empty where no test well counts.
    """
    own = labels[fitted.known]
    counts = ((own != "") if multilabel else own.isin(list(classes))).to_numpy()
    if not counts.any():
        return pd.DataFrame({"feature": [], "rise": []})
    truth: NDArray[np.bool_] | NDArray[np.intp] = membership(own[counts], classes, multilabel)  # (m, K)
    truth = truth if multilabel else truth.argmax(axis=1)
    order = np.random.default_rng(seed).permutation(len(fitted.train))  # none lends twice before all have lent
    draws = np.resize(order, (N_DRAWS, int(counts.sum())))
    rise = log_loss_rise(fitted.decide, fitted.new[counts], truth, fitted.train, draws)
    return pd.DataFrame({"feature": fitted.features, "rise": rise})


def importance_table(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the folds: the mean rise of each feature, 0 in a fold whose selection left it out.

    Returns
    -------
    DataFrame
        ``contestant, split, feature, importance`` (nats a well, mean over the folds), ``low`` and ``high`` (lowest and
        highest of the folds; they share training wells, so this is no confidence interval), ``n_folds`` (folds that
        kept the feature); the most important first within a contestant and split.

    Examples
    --------
    >>> one = pd.DataFrame({"contestant": "x", "split": "s", "feature": ["a", "b"], "rise": [0.5, 0.25]})
    >>> importance_table([one, one.iloc[1:]])[["feature", "importance", "low", "n_folds"]].to_numpy().tolist()
    [['a', 0.25, 0.0, 1], ['b', 0.25, 0.25, 2]]
    """
    found = [table for table in found if len(table)]
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    numbered = pd.concat([table.assign(of=i) for i, table in enumerate(found)], ignore_index=True)
    parts = []
    for (contestant, split), rows in numbered.groupby(["contestant", "split"], sort=False):
        folds = rows.pivot(index="feature", columns="of", values="rise")  # (features, folds)
        filled = folds.fillna(0.0)
        figures = {"importance": filled.mean(axis=1), "low": filled.min(axis=1), "high": filled.max(axis=1)}
        table = pd.DataFrame({**figures, "n_folds": folds.notna().sum(axis=1)}).reset_index()
        table = table.sort_values(["importance", "feature"], ascending=[False, True])
        parts.append(table.assign(contestant=str(contestant), split=str(split)))
    return pd.concat(parts, ignore_index=True)[COLUMNS]
