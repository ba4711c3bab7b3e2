"""Attention: blocks and tiles that the compiler and others choose, and the best that a search by simulation finds.

Shapes have 1 to 96 heads of 32 to 256 numbers and 1 to 8192 tokens, in a prompt or one step at a time. One program's cycles
are those of its launch with an empty L2; of launches one after the other each takes at least what the host needs for the next.
`compiler` is all that the compiler decides. The others have one program where it has one, or a launch for each part.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tiles.attention_oracle import AttentionOracle, AttentionSizes, Option, attention_cases
from benchmarks.tiles.report import Report, Row, Selection, selection_time

from npuvm.hw.config import load_chip
from npuvm.isa import load_isa

__all__ = ["measure"]

_FIXED = 64, 128
"""Rows of the fixed block, and edges of its tiles."""

_Choose = Callable[[AttentionOracle, AttentionSizes], Option]


def measure(name: str, count: int, sample: int) -> Report:
    """Cycles of every way and of the best found, by shape, and the time of a choice."""
    chip = load_chip(name)
    oracle = AttentionOracle(chip, load_isa(chip.isa.base, chip.isa.extensions))
    cases = attention_cases(count)
    rows = [_row(oracle, sizes, sample) for sizes in cases]
    searched = (
        f"of blocks of 16 to 256 rows, each with all tiles of both products with edges of 16 to 256 that fit, {sample}: half "
        "by estimates, half drawn; every block taken; and a launch for each part with the compiler's tiles"
    )
    return Report("attention", name, searched, rows, _selection(oracle, cases))


def _row(oracle: AttentionOracle, sizes: AttentionSizes, sample: int) -> Row:
    heads, rows, keys, size = sizes
    cycles, text = oracle.compiled(sizes)
    taken = {name: choose(oracle, sizes) for name, choose in _WAYS.items()}
    best, least, tried, space = oracle.search(sizes, sample, list(taken.values()))
    found = {name: oracle.finished(sizes, option) for name, option in taken.items()}
    return Row(
        f"{heads} heads {rows} x {keys} x {size}",
        ("one step" if rows == 1 else "prompt",),
        min(least, cycles),
        best.text if least < cycles else text,
        tried,
        space,
        {"compiler": cycles} | found,
        {"compiler": text} | {name: option.text for name, option in taken.items()},
    )


def _one_program(oracle: AttentionOracle, sizes: AttentionSizes) -> Option:
    return oracle.chosen(sizes) or Option(None, 0.0)


def _apart(oracle: AttentionOracle, sizes: AttentionSizes) -> Option:
    return Option(None, 0.0)


def _by(key: Callable[[AttentionOracle, AttentionSizes, Option], tuple[float, ...]]) -> _Choose:
    def choose(oracle: AttentionOracle, sizes: AttentionSizes) -> Option:
        options = [each for each in oracle.options(sizes) if each.block is not None]
        return min(options, key=lambda option: key(oracle, sizes, option), default=Option(None, 0.0))

    return choose


def _rounds(oracle: AttentionOracle, sizes: AttentionSizes, option: Option) -> tuple[float, ...]:
    """Rows of the busiest core group, and of as many the largest tiles."""
    assert option.block is not None
    heads, rows, *_ = sizes
    groups = oracle.chip.cores_with("cube")
    blocks = -(-rows // option.block.rows) * heads
    return -(-blocks // groups) * option.block.rows, -sum(n * k for n, k in option.block.tiles)


def _bytes(oracle: AttentionOracle, sizes: AttentionSizes, option: Option) -> tuple[float, ...]:
    """How often keys and values are read, and of as often the largest tiles."""
    assert option.block is not None
    return -(-sizes[1] // option.block.rows), -sum(n * k for n, k in option.block.tiles), -option.block.rows


def _fixed(oracle: AttentionOracle, sizes: AttentionSizes, option: Option) -> tuple[float, ...]:
    """The largest block within the fixed one."""
    assert option.block is not None
    rows, edge = _FIXED
    beyond = max(option.block.rows - rows, 0) + sum(max(n - edge, 0) + max(k - edge, 0) for n, k in option.block.tiles)
    return beyond, -option.block.rows, -sum(n * k for n, k in option.block.tiles)


_WAYS: dict[str, _Choose] = {
    "one program": _one_program,
    "apart": _apart,
    "rounds only": _by(_rounds),
    "bytes only": _by(_bytes),
    "fixed block": _by(_fixed),
}


def _selection(oracle: AttentionOracle, cases: list[AttentionSizes]) -> Selection:
    """The time of the choice of blocks."""
    seen: dict[AttentionSizes, object] = {}

    def choose(sizes: AttentionSizes) -> object:
        if sizes not in seen:
            seen[sizes] = oracle.family.choose(oracle.values(sizes))
        return seen[sizes]

    return selection_time(choose, cases, [(heads, rows, keys + 1, size) for heads, rows, keys, size in cases])
