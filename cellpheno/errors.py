"""Errors that are a user's or a disk's fault, each with all faults of one thing at once.

The command line turns them into exit codes: `InputError` 2, `Stopped` 4, anything else 1 (a bug).
"""


class InputError(ValueError):
    """A request that is refused before work; ``faults`` holds every reason, one line each.

    Examples
    --------
    >>> InputError("P1.zarr: no well", "map.csv: no column 'label'").faults
    ('P1.zarr: no well', "map.csv: no column 'label'")
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:  # faults survive the way back from a worker process
        return type(self), self.faults


class ConfigError(InputError):
    """A configuration that names something unknown, missing or of the wrong kind."""


class PlateError(InputError):
    """A plate, plate map or table on disk that cannot be read as what it claims to be."""


class DamagedInput(InputError):
    """A file that belongs to one field or well and cannot be trusted: the well is set aside, the plate goes on."""


class Stopped(BaseException):
    """Work that ended early and can be resumed: a signal, a full disk, too many failed wells.

    Like KeyboardInterrupt no Exception, for a signal may come anywhere: code that takes every error in reading a file
    for damage of the file must not take this one for it.
    """
