"""What a search found, as files and in a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from npuvm.explore.results.codes import code_lines
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import front_entries
from npuvm.explore.results.host import host_lines
from npuvm.explore.results.html import render_space
from npuvm.explore.results.html.page import costs, failures
from npuvm.explore.results.sensitivity import Sensitivity, sensitivities
from npuvm.explore.results.tables import points_csv, points_parquet
from npuvm.explore.space import Space
from npuvm.hw.errors import ConfigError
from npuvm.runtime.html.words import percent, three_digits

__all__ = ["check_packages", "report_files", "report_lines"]

_MOST_SHARES = 4
_MOST_REASONS = 5
_PACKAGES = {"plotly": "plotly", "pyarrow": "pyarrow", "optuna": "optuna", "sklearn": "scikit-learn"}


def check_packages() -> None:
    """ConfigError when a package is not installed that `report_files` needs."""
    if missing := [name for module, name in _PACKAGES.items() if find_spec(module) is None]:
        names = ", ".join(missing)
        raise ConfigError(f"the report needs {names}, which is not installed; pip install 'npuvm[explore]'")


def report_files(
    space: Space, entries: Iterable[Entry], folder: Path, found: Sequence[Sensitivity] | None = None
) -> dict[Path, str | bytes]:
    """The page, and every point as CSV and as Parquet, by the paths that they are to be written to.

    `found` are the space's `sensitivities`, for who has them already.

    ConfigError when a package of the extra `explore` is not installed.
    """
    listed = tuple(entries)
    return {
        folder / f"{space.name}.html": render_space(space, listed, found),
        folder / f"{space.name}.csv": points_csv(space, listed),
        folder / f"{space.name}.parquet": points_parquet(space, listed),
    }


def report_lines(space: Space, entries: Iterable[Entry], found: Sequence[Sensitivity] | None = None) -> Iterator[str]:
    """What stands under the front's table: what matters for each objective, what ran on the host, which code evaluated the
    points, why points failed, what the search took.

    `found` as of `report_files`.
    """
    listed = tuple(entries)
    if not front_entries(space, listed):
        yield "no point was simulated whole, so there is no front"
    for each in sensitivities(space, listed) if found is None else found:
        shares = [f"{name} {percent(share)}" for name, share in list(each.shares.items())[:_MOST_SHARES]]
        yield f"{each.objective} depends on: {', '.join(shares)}" if shares else f"{each.objective}: {each.note}"
        if shares and each.note:
            yield f"  {each.note}"
    yield from host_lines(listed)
    yield from code_lines(listed)
    reasons = failures(listed)
    for failure in reasons[:_MOST_REASONS]:
        count = len(failure.numbers)
        yield f"{count} point{'s' if count > 1 else ''} failed, the first is {failure.numbers[0]}: {failure.reason}"
    if len(reasons) > _MOST_REASONS:
        yield f"and {len(reasons) - _MOST_REASONS} other reasons"
    cost = costs(listed)
    if cost.points_per_minute is not None:
        rate = three_digits(cost.points_per_minute)
        yield (
            f"{three_digits(cost.cpu_seconds)} s of CPU (measured), {rate} points per minute and core; runs: "
            f"{cost.simulated} simulated, {cost.shared} shared, {cost.skipped} skipped"
        )
