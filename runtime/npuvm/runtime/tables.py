"""How tables for people look (rich), and counts in their text."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table

__all__ = ["launches_text", "plain_table"]


def plain_table(columns: Iterable[tuple[str, bool]]) -> Table:
    """An empty table of (heading, whether its column is of numbers, which stand to the right and never wrap)."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, numeric in columns:
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    return table


def launches_text(count: int) -> str:
    """A number of launches: "1 launch", "1,200 launches"."""
    return f"{count:,} launch{'' if count == 1 else 'es'}"
