"""How tables for people look (rich)."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table

__all__ = ["plain_table"]


def plain_table(columns: Iterable[tuple[str, bool]]) -> Table:
    """An empty table of (heading, whether its column is of numbers, which stand to the right and never wrap)."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, numeric in columns:
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    return table
