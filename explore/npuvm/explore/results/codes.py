"""Which code evaluated points: figures of different versions of npuvm may not be comparable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from npuvm.explore.results.entry import Entry

__all__ = ["by_code", "code_lines"]


def by_code(entries: Iterable[Entry]) -> dict[str, tuple[int, ...]]:
    """The numbers of points by the code that evaluated them, in the order of the points; the empty name is of unknown code."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        found.setdefault(entry.evaluation.code, []).append(entry.number)
    return {code: tuple(numbers) for code, numbers in found.items()}


def code_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """What there is to say of it: a line where there are points."""
    found = by_code(entries)
    if len(found) == 1:
        yield f"evaluated by code {next(iter(found)) or 'that is not known'}"
    elif found:
        parts = [
            f"{code or 'unknown'} ({len(numbers)} point{'s' if len(numbers) > 1 else ''}, the first is {numbers[0]})"
            for code, numbers in found.items()
        ]
        yield f"evaluated by several codes, figures may not be comparable: {', '.join(parts)}"
