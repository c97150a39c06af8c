"""From features and labels to decision values, whatever the classifier: the last step of every contestant."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC

from cellpheno.bounds import Range
from cellpheno.classes import membership
from cellpheno.compare.predictions import prior_logits, with_untaught
from cellpheno.errors import InputError

Decision = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # features (m, d) to decision values (m, K)


def fit_decision(
    classifier: Callable[[], Any],
    x: NDArray[np.float64],
    labels: "pd.Series[str]",
    classes: Sequence[str],
    seed: int,
    multilabel: bool,
) -> Decision:
    """Fit a classifier; what comes back scores new rows.

    Parameters
    ----------
    classifier : callable
        Makes a scikit-learn classifier.
    x : array of shape (n, d), float64
        Features of training wells.
    labels : Series of str, n
    classes : sequence of str
        One without a training well gets the probability of half a well and is never called.
    seed : int
        Goes to every ``random_state`` of the classifier.
    multilabel : bool
        One classifier a class answers yes or no.

    Returns
    -------
    callable
        From features (m, d) to decision values (m, K), float64, in the order of ``classes``: linear scores,
        ``(-d/2, d/2)`` for two classes, or log probabilities where the classifier has no decision function. With
        several classes a well, those of yes minus those of no.

    Raises
    ------
    InputError
        If fewer than two classes have a training well.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> x, labels = np.array([[-1.0], [1.0]]), pd.Series(["a", "b"])
    >>> values = fit_decision(LogisticRegression, x, labels, ["b", "a"], 0, False)(np.array([[2.0]]))
    >>> bool(values[0, 0] > 0), bool(values[0, 0] == -values[0, 1])
    (True, True)
    """
    if multilabel:
        return _yes_no(classifier, x, labels, classes, seed)
    taught = [name for name in classes if (labels == name).any()]
    if len(taught) < 2:
        told = ", ".join(map(repr, taught)) or "none"
        raise InputError(f"a training fold has wells with features of class {told} alone")
    model = classifier()
    seeds = [key for key in model.get_params() if key.rsplit("__", 1)[-1] == "random_state"]
    model.set_params(**dict.fromkeys(seeds, seed))
    model.fit(x, labels.to_numpy(dtype=object).astype(str))
    order = [list(model.classes_).index(name) for name in taught]

    def decide(new: NDArray[np.float64]) -> NDArray[np.float64]:
        if hasattr(model, "decision_function"):
            scores = np.asarray(model.decision_function(new), dtype=np.float64)
            scores = np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores
        else:  # a forest's vote of 0 is no proof: one vote in a thousand
            scores = np.log(np.clip(model.predict_proba(new), 1e-3, None))
        return with_untaught(scores[:, order], taught, classes, len(labels))

    return decide


def prior(labels: "pd.Series[str]", n: int, classes: Sequence[str], multilabel: bool) -> NDArray[np.float64]:
    """What is said of ``n`` wells without a feature (n, K).

    Examples
    --------
    >>> prior(pd.Series(["a", "b"]), 1, ["a", "b"], False).tolist()
    [[0.0, 0.0]]
    """
    counts = membership(labels, classes, multilabel).sum(axis=0)
    return np.tile(prior_logits(counts, len(labels), multilabel), (n, 1))


def _yes_no(
    classifier: Callable[[], Any],
    x: NDArray[np.float64],
    labels: "pd.Series[str]",
    classes: Sequence[str],
    seed: int,
) -> Decision:
    """Fit one classifier a class, yes against no: scores (m, K) in the order of ``classes``."""
    truth, asked = membership(labels, classes, True), {}
    for k, yes in enumerate(truth.T):
        if yes.any() and not yes.all():  # else there is nothing to tell apart, and the prior stands
            answers = pd.Series(np.where(yes, "yes", "no"), index=labels.index, dtype=object)
            asked[k] = fit_decision(classifier, x, answers, ("no", "yes"), seed, False)

    def decide(new: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = prior(labels, len(new), classes, True)
        for k, one in asked.items():
            own = one(new)
            scores[:, k] = own[:, 1] - own[:, 0]
        return scores

    return decide


class LinearSVMEnsemble(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """One against the rest, many linear support vector machines a class: their mean decision value.

    The idea is that of ensLOC, which localized yeast proteins by an ensemble of binary machines on engineered
    features. It differs: ensLOC learned from single cells that people had labelled and gave a protein the fractions of
    its cells; here a row is a well. Its members differ in how they were made; here each learns from a bootstrap of the
    wells, drawn from both sides apart so that none loses its class.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, for scaled features.
    n_members : int
        Machines a class.
    random_state : int, optional
        Seed of the bootstraps.

    References
    ----------
    Chong et al. 2015, Cell 161, 1413, doi:10.1016/j.cell.2015.04.051

    Examples
    --------
    >>> x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array(["a", "a", "b", "b"])
    >>> LinearSVMEnsemble(C=1.0, random_state=0).fit(x, y).predict([[-3.0], [3.0]]).tolist()
    ['a', 'b']
    """

    def __init__(
        self,
        C: Annotated[float, Range(0, open_low=True)] = 0.01,
        n_members: Annotated[int, Range(1)] = 20,
        random_state: int | None = None,
    ) -> None:
        self.C = C
        self.n_members = n_members
        self.random_state = random_state

    def fit(self, x: NDArray[np.float64], y: NDArray[Any]) -> "LinearSVMEnsemble":
        """Learn; the mean of linear functions is one linear function a class, and only that is kept."""
        self.classes_ = np.unique(y)
        rng = np.random.default_rng(self.random_state)
        asked = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        members = [[self._member(x, y == name, rng) for _ in range(self.n_members)] for name in asked]
        self.coef_ = np.array([np.mean([weights for weights, _ in own], axis=0) for own in members])  # (K, d)
        self.intercept_ = np.array([np.mean([bias for _, bias in own]) for own in members])  # (K,)
        return self

    def _member(
        self, x: NDArray[np.float64], yes: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], float]:
        """Weights (d,) and bias of one machine on its bootstrap."""
        sides = [np.flatnonzero(yes), np.flatnonzero(~yes)]
        rows = np.concatenate([rng.choice(side, size=len(side)) for side in sides])
        machine = SVC(kernel="linear", C=self.C, class_weight="balanced").fit(x[rows], yes[rows])
        return machine.coef_[0], float(machine.intercept_[0])

    def decision_function(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean decision values (n, K), or (n,) of the second of two classes."""
        values: NDArray[np.float64] = np.asarray(x) @ self.coef_.T + self.intercept_
        return values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, x: NDArray[np.float64]) -> NDArray[Any]:
        """Likeliest class of each row."""
        values = self.decision_function(x)
        best = (values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)
        named: NDArray[Any] = self.classes_[best]
        return named
