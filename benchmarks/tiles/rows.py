"""Reductions, normalisations and element-wise kernels: tiles that the compiler and others choose, and the best found.

Shapes have 1 to 8192 rows and 64 to 65536 columns, sizes of models and primes, with at most 2^23 elements. Segments of a
kernel run one after the other, each with an empty L2. `compiler` is all that the compiler decides. The others choose tiles for
its programs: with its way to reduce, and its number of chunks where cores share what is reduced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from benchmarks.tiles.report import Report, Row, Selection, selection_time
from benchmarks.tiles.row_oracle import Option, RowOracle, Subject
from benchmarks.tiles.row_shapes import RowCase, row_cases

from npuvm.hw.config import load_chip
from npuvm.isa import load_isa

__all__ = ["measure"]

_FIXED = 16, 1024
"""Rows and columns of the fixed tile: 32 KiB of fp16, 64 of fp32."""

_GROUPS = {
    "sum_rows": "reductions of rows", "max_rows": "reductions of rows", "sum_columns": "reductions of columns",
    "mean_columns": "reductions of columns", "sum_middle": "reductions of columns", "softmax": "normalisations",
    "layernorm": "normalisations", "rmsnorm": "normalisations", "bias_gelu": "element by element",
    "add": "element by element",
}  # fmt: skip


def measure(name: str, count: int, sample: int) -> Report:
    """Cycles of every way's tiles and of the best found, by shape, and the time of a choice."""
    chip = load_chip(name)
    oracle = RowOracle(chip, load_isa(chip.isa.base, chip.isa.extensions))
    cores = chip.cores_with("vector")
    cases = row_cases(count)
    rows = [_row(oracle, case, cores, sample) for case in cases]
    searched = (
        f"of all legal tiles with rows of a ladder or parts of all, columns likewise in blocks, and of 2 to 192 chunks, "
        f"{sample} for each segment: a third by estimates, a third drawn of the better half, a third of all; every tile taken; "
        "and the compiler's other plan, with whole rows in UB or without, where both fit"
    )
    return Report("rows", name, searched, rows, _selection(oracle, cases))


def _row(oracle: RowOracle, case: RowCase, cores: int, sample: int) -> Row:
    graph, plans = case.kernel.graph, oracle.subjects(case)
    own, best, tried, space = plans[0], 0, 0, 0
    ways = {name: [choose(each, cores) for each in own] for name, choose in _WAYS.items()}
    found: list[tuple[int, str]] = []
    for plan in plans:
        taken = [[ways[name][at] for name in ways] if plan is own else [each.taken] for at, each in enumerate(plan)]
        results = [oracle.search(graph, each, sample, also) for each, also in zip(plan, taken, strict=True)]
        found.append((sum(cycles for _, cycles, _ in results), "; ".join(option.text for option, _, _ in results)))
        tried += sum(number for *_, number in results)
        space += sum(len(each.options) for each in plan)
    best, best_by = min(found)
    cycles = {
        name: sum(oracle.finished(graph, each, option) for each, option in zip(own, options, strict=True))
        for name, options in ways.items()
    }
    texts = {name: "; ".join(option.text for option in options) for name, options in ways.items()}
    return Row(case.name, (_GROUPS[graph.name],), best, best_by, tried, space, cycles, texts)


def _alike(subject: Subject) -> list[Option]:
    """The options of the compiler's way to reduce, with its chunks."""
    taken = subject.taken
    whole = taken.way.space.whole
    numbers = {each.number for each in subject.options.values()}
    near = min(numbers - {0}, key=lambda number: abs(number - taken.number), default=0) if taken.number else 0
    return [each for each in subject.options.values() if each.number == near and each.way.space.whole == whole]


def _by(key: Callable[[Option, int], tuple[float, ...]]) -> Callable[[Subject, int], Option]:
    def choose(subject: Subject, cores: int) -> Option:
        alike: Sequence[Option] = _alike(subject) or [subject.taken]
        return min(alike, key=lambda option: key(option, cores))

    return choose


def _rounds(option: Option, cores: int) -> tuple[float, ...]:
    """Rounds of tiles, with each step of a walk as one, and of as many the smallest tiles."""
    steps = prod(option.tiles(dim) for dim, flag in enumerate(option.way.space.reduced) if flag)
    return -(-option.parallel // cores) * steps, option.rows * option.cols


def _bytes(option: Option, cores: int) -> tuple[float, ...]:
    """Bytes moved, and of as many the largest tiles."""
    return option.nbytes, -option.rows * option.cols


def _fixed(option: Option, cores: int) -> tuple[float, ...]:
    """The largest tile within the fixed one; what has to be whole is."""
    rows, cols = _FIXED
    beyond = max(option.rows - rows, 0) + max(option.cols - cols, 0)
    return beyond, -option.rows * option.cols


_WAYS: dict[str, Callable[[Subject, int], Option]] = {
    "compiler": lambda subject, cores: subject.taken,
    "rounds only": _by(_rounds),
    "bytes only": _by(_bytes),
    "fixed tile": _by(_fixed),
}


def _selection(oracle: RowOracle, cases: Sequence[RowCase]) -> Selection:
    """The time of the choice alone, for the segments of each kernel's first plan."""
    seen: dict[tuple[int, tuple[int, ...]], object] = {}

    def choose(shape: tuple[int, tuple[int, ...]]) -> object:
        found = seen.get(shape)
        if found is None:
            case = cases[shape[0]]
            found = seen[shape] = [each.chosen(shape[1]) for each in oracle.planned_for(case)]
        return found

    shapes = [(at, case.sizes) for at, case in enumerate(cases)]
    warm = [(at, (*case.sizes[:-1], case.sizes[-1] + 1)) for at, case in enumerate(cases)]
    return selection_time(choose, shapes, warm)
