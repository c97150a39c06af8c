"""``key=value`` as a person types it: taken apart, quoted, split into the choices of a sweep. Plain text, no hydra."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cellpheno.errors import ConfigError

_OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[^=+~]+)(?:=(?P<value>.*))?", re.DOTALL)


class Override(NamedTuple):
    """``sign key=value`` as typed; ``value`` is None for a deletion such as ``~measurements.texture``."""

    sign: str
    key: str
    value: str | None

    def __str__(self) -> str:
        return f"{self.sign}{self.key}" + ("" if self.value is None else f"={self.value}")


def parse(text: str) -> Override:
    """Take an override apart.

    Raises
    ------
    ConfigError
        If it is not ``key=value``.

    Examples
    --------
    >>> parse("+plate=a=b")
    Override(sign='+', key='plate', value='a=b')
    """
    match = _OVERRIDE.fullmatch(text)
    if not match or (match["value"] is None and match["sign"] != "~"):
        raise ConfigError(f"{text!r} is not key=value; write for example seed=1 or pooling=noisy_and")
    return Override(match["sign"] or "", match["key"].strip(), match["value"])


def group_fault(override: Override, groups: Mapping[str, Sequence[str]]) -> str | None:
    """Say what is wrong with the choice of a group's option; None where nothing is."""
    group = override.key.split("@")[0]
    if group not in groups or override.value is None:
        return None
    options = [v.strip(" '\"") for v in override.value.strip("[]").split(",")]
    unknown = [o for o in options if o not in groups[group] and o not in ("null", "")]
    if not unknown:
        return None
    told = f"{', '.join(unknown)}{nearest(unknown[0], groups[group])}; options: {', '.join(groups[group])}"
    return f"{group}={override.value}: no option {told}"


def choices(override: Override) -> Iterator[str]:
    """Overrides that a comma list stands for; commas in brackets and quotes are text.

    Examples
    --------
    >>> list(choices(parse("plate=007,'a,b'")))
    ['plate=007', "plate='a,b'"]
    """
    value = override.value or ""
    depth, quote, start = 0, "", 0
    for index, letter in enumerate(value):
        quote = "" if letter == quote else (quote or (letter if letter in "'\"" else ""))
        depth += 0 if quote else (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth and not quote:
            yield f"{override.sign}{override.key}={value[start:index]}"
            start = index + 1
    yield str(override) if not start else f"{override.sign}{override.key}={value[start:]}"


def quoted(text: str) -> str:
    r"""Quote text so that Hydra's grammar leaves it as it is.

    Examples
    --------
    >>> quoted("it's (1)")
    "'it\\'s (1)'"
    """
    return "'" + re.sub(r"(\\*)(')", r"\1\1\\\2", text).replace("\n", " ") + ("\\" if text.endswith("\\") else "") + "'"


def nearest(name: str, known: Iterable[object]) -> str:
    """The known names closest to one that is not known, ready to stand in a message."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""
