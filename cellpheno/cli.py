"""The command line: ``cellpheno STEP key=value ...``. Generic: compose, check, call, turn the end into an exit code.

Exit codes: 0 done, 1 a bug, 2 refused before work, 3 finished with something left out, 4 stopped and can be resumed.
"""

import argparse
import ast
import importlib.metadata
import inspect
import logging
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cellpheno.errors import InputError, Stopped

STAGES = Path(__file__).parent / "stages"
STEPS = (
    *("run", "simulate", "import_plate", "segment", "measure", "crop", "embed", "image_statistics"),
    *("train", "predict", "compare", "learning_curve", "report", "record"),
    *("predict_baselines", "score_new"),
    *("import_crops", "train_cells", "transfer_curve"),
)
WHOLE = {"experiment": "a named, whole run", "preset": "settings of many keys that belong together"}  # groups of no key
SEVERITY = (0, 3, 2, 4, 1)  # from best to worst, over the jobs of a sweep
USAGE = """\
usage: cellpheno STEP [key=value ...] [-m] [--cfg job] [--config-dir DIR]

From a microscope's plate folder to a verdict. The steps, in the order in which data walks through them:

{steps}
  init           write a starter experiment for your own plate: cellpheno init FOLDER

cellpheno STEP --help   keys and options of a step
-m                      every combination of comma lists: cellpheno train -m pooling=mean,noisy_and seed=1,2
--cfg job               print the composed configuration and stop
--config-dir DIR        groups of your own, such as DIR/experiment/mine.yaml
--version

Exit codes: 0 done, 1 a bug, 2 refused before work, 3 something was left out, 4 stopped: run it again to resume
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(steps="\n".join(f"  {step:<14} {first_line(step)}" for step in STEPS)), end="")
        return 0
    if arguments[0] == "--version":
        print(importlib.metadata.version("cellpheno"))
        return 0
    signal.signal(signal.SIGTERM, _stop)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _command(arguments[0], arguments[1:])
    except InputError as error:
        return _say(2, "refused", *error.faults)
    except (Stopped, KeyboardInterrupt) as error:
        return _say(4, "stopped", str(error) or "interrupted", "run the same command again to resume")
    except OSError as error:
        from cellpheno.plates.commit import storage_is_lost

        if storage_is_lost(error):
            return _say(4, "stopped", f"{error.strerror}: {error.filename}", "run the same command again to resume")
        return _bug()
    except Exception:
        return _bug()


def first_line(step: str) -> str:
    """First line of a step's docstring, read without importing the step."""
    tree = ast.parse((STAGES / f"{step}.py").read_text(encoding="utf-8"))
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == step)
    return (ast.get_docstring(function) or "").splitlines()[0]


def _command(step: str, arguments: list[str]) -> int:
    if step == "init":
        from cellpheno.stages.init import init

        return _init(arguments, init)
    if step not in STEPS:
        from cellpheno.overrides import nearest

        raise InputError(f"no step {step!r}{nearest(step, [*STEPS, 'init'])}; cellpheno --help lists the steps")
    parser = argparse.ArgumentParser(prog=f"cellpheno {step}", add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job"])
    parser.add_argument("--config-dir", type=Path)
    parser.error = _refuse  # type: ignore[method-assign]
    options, overrides = parser.parse_known_args(arguments)
    if options.help:
        print(step_help(step, options.config_dir), end="")
        return 0
    return _run(step, overrides, options)


def _run(step: str, overrides: list[str], options: argparse.Namespace) -> int:
    from cellpheno import config, steps

    jobs = config.sweep(overrides) if options.multirun else [tuple(overrides)]
    if options.cfg:
        for job in jobs:
            print(config.to_yaml(config.compose_step(step, *job, config_dir=options.config_dir)), end="")
        return 0
    configs = [config.load_config(step, *job, config_dir=options.config_dir) for job in jobs]  # all, before any runs
    codes = []
    for job, composed in zip(jobs, configs, strict=True):
        if len(jobs) > 1:
            print(f"--- {step} {' '.join(job)}", file=sys.stderr)
        with steps.kept(step, composed):
            outcome = steps.bind(step, composed)()
        codes.append(outcome.exit_code)
        print(outcome.path)
    return max((int(code) for code in codes), key=SEVERITY.index)


def _init(arguments: list[str], init: object) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-") or not callable(init):
        print("usage: cellpheno init FOLDER   (FOLDER holds your microscope's images; nothing is written into it)")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    print(init(Path(arguments[0])))
    return 0


def step_help(step: str, config_dir: Path | None = None) -> str:
    """What a step does, its keys with defaults and meaning, its groups with their options."""
    from cellpheno import config, steps

    function = steps.step_function(step)
    composed = config.compose_step(step, config_dir=config_dir)
    groups = config.config_groups(config_dir)
    referred = {k: text for k, text in config.referred_keys(step, config_dir).items() if k not in groups}
    meaning = _parameter_docs(function.__doc__ or "")
    for chosen in STEPS[1:] if step == "run" else []:
        meaning = {**_parameter_docs(steps.step_function(chosen).__doc__ or ""), **meaning}
    meaning = referred | meaning
    whole = config.compose_step("run", config_dir=config_dir)
    lines = [f"cellpheno {step} [key=value ...]", "", first_line(step), "", "Keys (default):"]
    own = [str(key) for key in composed if key not in groups and key != "_target_"]
    for key in [*own, *(key for key in referred if key not in composed)]:
        lines.append(f"  {key}={config.shown(composed if key in own else whole, key)}")
        lines.append(f"      {meaning.get(key, '')}")
    lines += ["", "Groups (default first): GROUP=OPTION, and GROUP.KEY=VALUE for what an option takes (see --cfg job)"]
    chosen_options = config.chosen_options(step)
    for group in [g for g in groups if g in composed or g in WHOLE]:
        first = chosen_options.get(group, [])
        rest = [option for option in groups[group] if option not in first]
        lines.append(f"  {group}={', '.join([*first, *rest])}")
        lines.append(f"      {meaning.get(group, WHOLE.get(group, ''))}")
    return "\n".join(lines) + "\n"


def _parameter_docs(docstring: str) -> dict[str, str]:
    """Meaning of each parameter, from a numpydoc section."""
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n|\Z)", inspect.cleandoc(docstring), re.DOTALL)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else []:
        if line.startswith(" "):
            for name in names:
                found[name] = f"{found[name]} {line.strip()}".strip()
        else:
            names = [n.strip("* ") for n in line.split(" : ")[0].split(",")]
            found.update(dict.fromkeys(names, ""))
    return found


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(f"signal {signal.Signals(number).name}")


def _refuse(message: str) -> NoReturn:
    raise InputError(message)


def _say(code: int, word: str, *lines: str) -> int:
    print(f"cellpheno: {word}", *(f"  {line}" for line in lines), sep="\n", file=sys.stderr)
    return code


def _bug() -> int:
    traceback.print_exc()
    return _say(1, "a bug", "this is not your mistake; please report it with the lines above")


if __name__ == "__main__":
    sys.exit(main())
