"""Which values a setting may take, said beside its type, as ``dropout: Annotated[float, Range(0, 1)]``.

`cellpheno.config_check` reads it, so that a value outside is refused with its key before any work; a function that is
`bounded` refuses it from Python too.
"""

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


class Range(NamedTuple):
    """Lowest and highest number; for a list, of each of its numbers.

    Examples
    --------
    >>> Range(0, 1).wanted(2), Range(0, 1).wanted(0), Range(0, 1, open_low=True).wanted(0), Range(1).wanted([4, 0])
    ('0 to 1', '', 'above 0, at most 1', '1 or more')
    """

    low: float
    high: float = math.inf
    open_low: bool = False  # the lowest itself is refused
    open_high: bool = False  # the highest itself is refused

    def wanted(self, value: Any) -> str:
        """What should have been given; empty where the value fits, or is no number."""
        numbers = value if isinstance(value, list | tuple) else [value]
        if all(self._holds(n) for n in numbers if isinstance(n, int | float) and not isinstance(n, bool)):
            return ""
        if not self.open_low and not self.open_high and self.high < math.inf:
            return f"{self.low} to {self.high}"
        low = f"above {self.low}" if self.open_low else f"{self.low} or more"
        high = f"below {self.high}" if self.open_high else f"at most {self.high}"
        return low if self.high == math.inf else f"{low}, {high}"

    def _holds(self, number: float) -> bool:  # nan is in no range
        above = self.low < number if self.open_low else self.low <= number
        return above and (number < self.high if self.open_high else number <= self.high)


class Listed(NamedTuple):
    """Entries of a list, or names of a mapping: one or more, each once.

    Examples
    --------
    >>> Listed().wanted([]), Listed().wanted(["a", "b", "a"]), Listed(empty=True).wanted([]), Listed().wanted(None)
    ('one or more', "each once, 'a' stands there 2 times", '', '')
    >>> Listed(rising=True).wanted([4, 2])
    'rising numbers'
    """

    empty: bool = False  # none is well too
    rising: bool = False

    def wanted(self, value: Any) -> str:
        """What should have been given; empty where the value fits, or is neither list nor mapping."""
        if isinstance(value, str) or not isinstance(value, Sequence | Mapping):
            return ""
        entries = list(value)
        if not entries and not self.empty:
            return "one or more"
        if double := next((entry for entry in entries if entries.count(entry) > 1), None):
            return f"each once, {double!r} stands there {entries.count(double)} times"
        return "rising numbers" if self.rising and entries != sorted(entries) else ""


def bounded(function: Function) -> Function:
    """Let a function refuse what is outside the `Range`, or none of the ``Literal``, of a parameter.

    Raises
    ------
    ValueError
        When the function is called so, with its name, the parameter's, what came and what was wanted.

    Examples
    --------
    >>> @bounded
    ... def rings(bins: typing.Annotated[int, Range(1, 9)] = 4) -> int:
    ...     return bins
    >>> rings(), rings(9)
    (4, 9)
    >>> rings(bins=0)
    Traceback (most recent call last):
    ValueError: rings bins 0: wanted 1 to 9
    """
    hints = typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if wanted := _outside(value, hints.get(name)):
                raise ValueError(f"{function.__name__} {name} {value!r}: wanted {wanted}")
        return function(*args, **kwargs)

    return cast(Function, checked)


def _outside(value: Any, hint: Any) -> str:
    """What should have been given; empty where the value fits, or nothing is said of it."""
    options = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    if options and value not in options:
        return " or ".join(options)
    ranges = [bound for bound in getattr(hint, "__metadata__", ()) if isinstance(bound, Range)]
    return next((wanted for bound in ranges if (wanted := bound.wanted(value))), "")
