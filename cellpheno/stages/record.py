"""The run's tables as one section of a file of results."""

import datetime
from pathlib import Path

from cellpheno.batch.engine import Outcome
from cellpheno.errors import InputError
from cellpheno.plates.commit import commit_file
from cellpheno.report.record import record_section, with_section
from cellpheno.report.run import read_run, stated


def record(
    output: Path, results: Path = Path("benchmarks/RESULTS.md"), title: str | None = None, date: str | None = None
) -> Outcome:
    """Write the run's scores, differences, choices and cost as one section of a Markdown file.

    The section of a run of the same folder name is replaced; all else in the file stays as it is, to the byte.

    Parameters
    ----------
    output : Path
        The run's folder.
    results : Path
        The Markdown file; it is made where there is none.
    title : str, optional
        Heading of the section; by default what the run's configuration says, else the name of the run's folder.
    date : str, optional
        Of the record, such as 2026-11-26; null: today.
    """
    try:
        day = datetime.date.fromisoformat(date) if date else datetime.datetime.now(datetime.UTC).astimezone().date()
    except ValueError as error:
        raise InputError(f"date={date}: wanted a day such as 2026-11-26") from error
    run = read_run(output)
    name = output.resolve().name
    section = record_section(run, title or next(iter(stated(run, "title")), name), day.isoformat())
    try:
        before = results.read_bytes().decode("utf-8") if results.is_file() else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{results} is no text in UTF-8; give another results=FILE.md") from error
    after = with_section(before, name, section)
    with commit_file(results) as temporary:
        temporary.write_bytes(after.encode("utf-8"))
    return Outcome(results)
