"""Which classes a well belongs to, as the text of its label and as a table of yes and no.

With one class a well the label is the class's name. With several (``multilabel``) it joins their names by ``|``, in the
order of the classes; ``(none)`` says that a well belongs to none of them. An empty label says nothing: the well is new.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

AND, NONE = "|", "(none)"
ONE, SEVERAL, JUNK = "one a well", "several a well", "junk"  # kinds of classes, as a run's classes.csv tells them


def label_parts(label: str, multilabel: bool) -> list[str]:
    """Classes that a label names.

    Examples
    --------
    >>> label_parts("nuclear|membrane", True), label_parts("nuclear|membrane", False), label_parts("(none)", True)
    (['nuclear', 'membrane'], ['nuclear|membrane'], [])
    """
    if not multilabel:
        return [label] if label else []
    return [] if label in ("", NONE) else label.split(AND)


def join_classes(belongs: Iterable[bool], classes: Sequence[str]) -> str:
    """Label of a well that belongs to some of the classes.

    Examples
    --------
    >>> join_classes([True, False, True], ["nuclear", "er", "membrane"]), join_classes([False], ["nuclear"])
    ('nuclear|membrane', '(none)')
    """
    return AND.join(name for name, yes in zip(classes, belongs, strict=True) if yes) or NONE


def membership(labels: Iterable[str], classes: Sequence[str], multilabel: bool) -> NDArray[np.bool_]:
    """Whether each well (n) belongs to each class (K): (n, K). Names that are no class count as none.

    Examples
    --------
    >>> membership(["b", "a|b", "(none)"], ["a", "b"], True).tolist()
    [[False, True], [True, True], [False, False]]
    """
    sets = [set(label_parts(label, multilabel)) for label in labels]
    table = [[name in own for name in classes] for own in sets]
    return np.array(table, dtype=bool).reshape(len(sets), len(classes))


def unknown_classes(labels: Iterable[str], classes: Sequence[str], multilabel: bool) -> list[str]:
    """Names in labels that are no class, sorted.

    Examples
    --------
    >>> unknown_classes(["a|x", "b", ""], ["a", "b"], True)
    ['x']
    """
    return sorted({part for label in set(labels) for part in label_parts(label, multilabel)} - set(classes))


def called_classes(logits: NDArray[np.floating], classes: Sequence[str], multilabel: bool) -> list[str]:
    """What is predicted of each well: its likeliest class, or all classes above 0.5 (``(none)`` where there is none).

    Examples
    --------
    >>> logits = np.array([[2.0, 1.0], [-2.0, -1.0]])
    >>> called_classes(logits, ["a", "b"], False), called_classes(logits, ["a", "b"], True)
    (['a', 'b'], ['a|b', '(none)'])
    """
    if multilabel:
        return [join_classes(row, classes) for row in logits > 0]
    return [classes[k] for k in logits.argmax(axis=1)]
