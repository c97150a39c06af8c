"""A step as a function of ``cellpheno.stages``: its parameters are its keys, a configuration is a call of it."""

import contextlib
import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from cellpheno.batch.engine import jobs_ended
from cellpheno.components import build, resolve
from cellpheno.errors import InputError
from cellpheno.plates.commit import commit_file


def step_function(step: str) -> Callable[..., Any]:
    """The function behind a step."""
    return resolve(f"cellpheno.stages.{step}.{step}")


def parameters(step: str) -> Mapping[str, inspect.Parameter] | None:
    """Parameters of a step by name; None for a step that takes every key (``run``)."""
    found = inspect.signature(step_function(step)).parameters
    return None if any(p.kind is p.VAR_KEYWORD for p in found.values()) else found


def bind(step: str, config: DictConfig) -> Callable[[], Any]:
    """Make a checked configuration's components and bind them to the step's function."""
    function = step_function(step)
    steps = [step] if parameters(step) is not None else config.steps
    hints = {name: hint for one in steps for name, hint in typing.get_type_hints(step_function(one)).items()}
    given = [str(key) for key in config if key != "_target_" and not OmegaConf.is_missing(config, str(key))]
    settings = {key: config[key] for key in given}
    made = {
        key: build(OmegaConf.to_container(value, resolve=True)) if isinstance(value, DictConfig | ListConfig) else value
        for key, value in settings.items()
    }
    return functools.partial(function, **{k: _as_path(v, hints.get(k)) for k, v in made.items()})


@contextlib.contextmanager
def kept(step: str, config: DictConfig) -> Iterator[None]:
    """Write the configuration into the run's folder, where the step has one.

    A step that is refused before it has done anything leaves what was there, which the results were made with.
    """
    if "output" not in config:
        yield
        return
    file, ended = Path(config.output) / "config" / f"{step}.yaml", jobs_ended()
    before = file.read_bytes() if file.is_file() else None
    new = [folder for folder in (file.parent, file.parent.parent) if not folder.exists()]
    _write(file, OmegaConf.to_yaml(config).encode())
    try:
        yield
    except InputError:
        if jobs_ended() == ended:
            _undo(file, before, new)
        raise


def _undo(file: Path, before: bytes | None, new: Sequence[Path]) -> None:
    if before is not None:
        _write(file, before)
        return
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # what else stands there stays
        for folder in new:
            folder.rmdir()


def _write(file: Path, content: bytes) -> None:
    with commit_file(file) as temporary:
        temporary.write_bytes(content)


def _as_path(value: Any, hint: Any) -> Any:
    if isinstance(value, list) and "Path" in str(hint):
        return [Path(item) for item in value]
    return Path(value) if isinstance(value, str) and "Path" in str(hint) else value
