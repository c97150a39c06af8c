"""Seeds that do not depend on the order of work: each follows from the run's seed and a name."""

import hashlib


def derived_seed(seed: int, *names: str | int) -> int:
    """Seed of one part of a run, such as a well, whatever was computed before it.

    Parameters
    ----------
    seed : int
        The run's seed.
    *names : str or int
        What the part is called: plate and well, or split, repeat and fold.

    Returns
    -------
    int
        In 0 .. 2**32 - 1.

    Examples
    --------
    >>> derived_seed(1, "P1", "B03") == derived_seed(1, "P1", "B03") != derived_seed(2, "P1", "B03")
    True
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
