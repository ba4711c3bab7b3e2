"""What searches found: their front, `npuvm explore report`, `pick` and `compare`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.text import Text

from npuvm.cli.options import AsJson
from npuvm.cli.output import DelayedBar, OutputError, json_text, wide_console, write_together
from npuvm.explore import results
from npuvm.explore.results import Entry
from npuvm.explore.space import Space
from npuvm.hw.errors import ConfigError

if TYPE_CHECKING:
    from npuvm.explore.study import Stored

__all__ = ["FOLDER", "ResultsFolder", "Storage", "check_report", "compare", "pick", "report", "show_results"]

FOLDER = Path("build", "explore")

Storage: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Where the study is kept: a file, or a URL of Optuna's. Default: build/explore/NAME.sqlite."),
]
StudyName: TypeAlias = Annotated[
    str | None,
    typer.Option("--study", help="The name of the space, where there are several studies.", show_default=False),
]
ResultsFolder: TypeAlias = Annotated[
    Path,
    typer.Option("--out", "-o", help="Folder for the report NAME.html, and for all points NAME.csv and NAME.parquet."),
]
Number: TypeAlias = Annotated[int, typer.Argument(min=0, help="A point's number.", show_default=False)]


def pick(
    number: Number,
    study: StudyName = None,
    storage: Storage = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for the files. Default: build/explore/NAME_NUMBER.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a point as a chip file and a scenario for each workload, which `npuvm simulate` runs to the same figures."""
    stored = _stored(study, storage)
    if changed := _changed(stored):
        raise ConfigError(f"{changed}, so that this point's figures would be others; restore it, or search anew")
    folder = out or FOLDER / f"{stored.space.name}_{number}"
    picked = results.pick(stored.space, _entry(stored, number), folder)
    write_together(picked.files)
    for line in picked.expected:
        typer.echo(line)
    typer.echo(f"{len(picked.files)} files in {folder}; to run them:\n  {picked.command}")


def compare(a: Number, b: Number, study: StudyName = None, storage: Storage = None, as_json: AsJson = False) -> None:
    """Say why two points differ: parameters, measures, and what each unit did."""
    stored = _stored(study, storage)
    _warn(stored)
    found = results.compare(stored.space, _entry(stored, a), _entry(stored, b))
    if as_json:
        typer.echo(json_text(found.to_json()), nl=False)
        return
    console = wide_console()
    for table in results.comparison_tables(found):
        console.print(table)
    for line in found.conclusions:
        typer.echo(line)


def report(
    study: StudyName = None, storage: Storage = None, out: ResultsFolder = FOLDER, as_json: AsJson = False
) -> None:
    """Write the report of a study, as a search does at its end; the search may still be running."""
    stored = _stored(study, storage)
    _warn(stored)
    show_results(stored.space, stored.entries, out, as_json)


def check_report(folder: Path) -> None:
    """What a report needs, for who begins a long search: ConfigError without its packages, OutputError without the folder."""
    results.check_packages()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", str(folder)) from None


def show_results(space: Space, entries: Sequence[Entry], folder: Path, as_json: bool, quiet: bool = False) -> None:
    """Print the front as a table with what there is to say of it, or as JSON; write the page and the tables of points.

    The table comes first, so that it is there whatever becomes of the files.
    """
    console = wide_console()
    if not (as_json or quiet):
        console.print(Text.assemble((space.name, "bold"), f": {space.title}"))
        console.print(results.front_table(space, entries))
    with DelayedBar(f"report of {space.name}"):
        found = results.sensitivities(space, entries)
        files = results.report_files(space, entries, folder, found)
    write_together(files)
    if as_json:
        typer.echo(json_text(_document(space, entries, files)), nl=False)
    elif not quiet:
        for line in results.report_lines(space, entries, found):
            typer.echo(line)
        typer.echo(f"report in {', '.join(map(str, files))}")


def _document(space: Space, entries: Sequence[Entry], files: Iterable[Path]) -> dict[str, Any]:
    states = Counter(entry.evaluation.state for entry in entries)
    return {
        "space": space.name,
        "objectives": [objective.name for objective in space.objectives],
        "evaluated": len(entries),
        "states": dict(sorted(states.items())),
        "codes": {code or "unknown": len(numbers) for code, numbers in results.by_code(entries).items()},
        "front": [
            {"number": entry.number, "point": dict(entry.point), "measures": _finite(entry.evaluation.measures)}
            for entry in results.front_entries(space, entries)
        ],
        "host_cpu_seconds_measured": sum(entry.evaluation.host.cpu_seconds for entry in entries),
        "files": [str(path) for path in files],
    }


def _finite(measures: Mapping[str, float]) -> dict[str, float | None]:
    """Measures as JSON has them, which knows no infinity."""
    return {name: value if isfinite(value) else None for name, value in measures.items()}


def _stored(study: str | None, storage: str | None) -> Stored:
    from npuvm.explore.study import StudyError, read_study

    if storage is not None:
        return read_study(storage, study)
    if study is not None:
        return read_study(str(FOLDER / f"{study}.sqlite"), study)
    files = sorted(path for path in FOLDER.glob("*.sqlite") if not path.name.endswith(".results.sqlite"))
    if len(files) > 1:
        from npuvm.explore.study.storage import has_points

        files = [path for path in files if has_points(str(path))] or files
    if len(files) != 1:
        known = f"there are {', '.join(path.stem for path in files)}" if files else "there is none"
        raise StudyError(f"say which study, by --study or --storage; {known}", str(FOLDER))
    return read_study(str(files[0]))


def _changed(stored: Stored) -> str:
    """What is not as the study began with, in words; empty where all is as it was."""
    names = ", ".join(stored.changed())
    return f"changed since study {stored.space.name} began, or cannot be read: {names}" if names else ""


def _warn(stored: Stored) -> None:
    if changed := _changed(stored):
        typer.echo(f"npuvm: {changed}; figures are those of before", err=True)


def _entry(stored: Stored, number: int) -> Entry:
    from npuvm.explore.study import StudyError

    for entry in stored.entries:
        if entry.number == number:
            return entry
    last = max((entry.number for entry in stored.entries), default=None)
    known = "no point is there" if last is None else f"there are 0 to {last}"
    raise StudyError(f"no point {number} of {stored.space.name} was evaluated; {known}")
