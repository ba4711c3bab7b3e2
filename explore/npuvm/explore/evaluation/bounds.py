"""Limits of what a run takes, from its model and a chip's numbers alone: known before anything is compiled.

What is counted must be done by any program of the model: products that every element of an output needs, and bytes of inputs
and weights that every program must fetch, because the host has written them, and L2 does not hold them. Each is held against
the rate of all units of the chip together. Steps whose sizes follow from data, and loops and branches, count as nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, prod

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.model import DeviceStep, Model
from npuvm.compiler.graph.ops import ARITHMETIC, COMPARES, REDUCES, UNARY
from npuvm.compiler.graph.ops_conv import conv_numbers, conv_pads
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.explore.evaluation.counts import Counts, energy_of, interval_us, latency_us
from npuvm.explore.evaluation.measures import Figures
from npuvm.hw.config import NpuConfig
from npuvm.hw.energy import Technology, Work
from npuvm.hw.memory.chunks import engines_of
from npuvm.runtime.session.binding import available, derive

__all__ = ["NO_BOUND", "RunBound", "bound_figures", "least_cycles", "run_bound"]

_TAKES_ALL = frozenset(
    {*UNARY, *ARITHMETIC, *COMPARES, *REDUCES, "cast", "broadcast_to", "reshape", "permute", "concat"}
)
"""Operations of which a whole result needs every element of every input. A choice by a mask may need less."""

_PRODUCTS = ("matmul", "conv2d")

_US_PER_S = 1e6
_PJ_PER_UJ = 1e6

_SLACK = 1 - 1e-9
"""Figures are sums of floats: a limit must not be above them by their rounding."""


@dataclass(frozen=True)
class RunBound:
    """What any program of a run must do: multiply-adds by operand type, bytes read from main memory, bytes written."""

    multiply_adds: Mapping[str, int] = field(default_factory=dict)
    read_bytes: int = 0
    written_bytes: int = 0


NO_BOUND = RunBound()
"""Of a run of which nothing is known before."""


def run_bound(model: Model, sizes: Mapping[str, int]) -> RunBound:
    """What a run of a model at these sizes must do."""
    binding = dict(sizes)
    derive(available(model.derived, binding), binding)
    cold = {*model.inputs, *model.constants}
    multiply_adds: dict[str, int] = {}
    read: dict[str, int] = {}
    written: dict[int, int] = {}
    total = 0
    for step in model.steps:
        known = _binding(step.graph, binding) if isinstance(step, DeviceStep) else None
        if known is None or not isinstance(step, DeviceStep):
            continue
        written.clear()
        for node in _needed(step.graph, known):
            if node.op in _PRODUCTS:
                dtype = node.inputs[0].type.dtype
                multiply_adds[dtype] = multiply_adds.get(dtype, 0) + _multiply_adds(node, known)
            elif node.op == "load" and (name := step.inputs.get(str(node.attrs["param"]))) in cold:
                # Several steps may read one tensor, which is in L2 then.
                read[str(name)] = _nbytes(node, known)
            elif node.op == "store" and not _is_view(node.inputs[0]):
                written[node.inputs[0].id] = _nbytes(node, known)
        total += sum(written.values())
    return RunBound(multiply_adds, sum(read.values()), total)


def _is_view(node: Node) -> bool:
    """Whether a value is a parameter, perhaps in other words: nobody has to write it."""
    return node.op == "load" or (node.op in ("reshape", "permute") and _is_view(node.inputs[0]))


def _binding(graph: Graph, binding: Mapping[str, int]) -> dict[str, int] | None:
    """Values of a graph's symbols, None where some follow from data."""
    known = dict(binding)
    derive(available(graph.derived, known), known)
    dims = (dim for node in graph.nodes for dim in node.type.shape if isinstance(dim, str))
    return known if all(dim in known for dim in dims) else None


def _shape(node: Node, known: Mapping[str, int]) -> tuple[int, ...]:
    return evaluate(node.type.shape, known)


def _elements(node: Node, known: Mapping[str, int]) -> int:
    return prod(_shape(node, known))


def _nbytes(node: Node, known: Mapping[str, int]) -> int:
    return _elements(node, known) * DTYPES[node.type.dtype].item_bytes


def _needed(graph: Graph, known: Mapping[str, int]) -> list[Node]:
    """Nodes of which every element is needed, one of those that are equal; those without elements are left out."""
    wanted: set[int] = set()
    for node in reversed(graph.nodes):
        if (node.op == "store" or node.id in wanted) and _elements(node, known):
            wanted.add(node.id)
            # The kernels of a convolution are needed whole, of its input strides may leave something out.
            whole = node.inputs[1:] if node.op == "conv2d" else node.inputs
            if node.op in _TAKES_ALL or node.op in _PRODUCTS or node.op == "store":
                wanted.update(each.id for each in whole)
    numbers: dict[tuple[object, ...], int] = {}
    value: dict[int, int] = {}
    found: dict[int, Node] = {}
    for node in graph.nodes:
        attrs = tuple(sorted((name, repr(each)) for name, each in node.attrs.items()))
        key = (node.op, attrs, *(value[each.id] for each in node.inputs))
        value[node.id] = numbers.setdefault(key, len(numbers))
        if node.id in wanted and _elements(node, known):
            found.setdefault(value[node.id], node)
    return list(found.values())


def _multiply_adds(node: Node, known: Mapping[str, int]) -> int:
    left, right = (_shape(each, known) for each in node.inputs[:2])
    if node.op == "matmul":
        depth = left[-2] if node.attrs.get("transpose_a") else left[-1]
        return _elements(node, known) * depth
    planes = bool(node.attrs.get("planes"))
    images, filters = left[0], right[0]
    extents, kernel, depth = (left[2:], right[2:], right[1]) if planes else (left[1:3], right[1:3], right[3])
    out = _shape(node, known)[2:] if planes else _shape(node, known)[1:3]
    strides, dilations = (conv_numbers(node.attrs, name, 2, 1) for name in ("strides", "dilations"))
    pads = evaluate(conv_pads(node.attrs)[::2], known)
    taps = [
        _taps(out[axis], kernel[axis], extents[axis], strides[axis], dilations[axis], pads[axis]) for axis in range(2)
    ]
    return images * filters * depth * taps[0] * taps[1]


def _taps(out: int, kernel: int, extent: int, stride: int, dilation: int, pad: int) -> int:
    """Pairs of a place of the result and a place of the kernel that meet within the input, along one axis."""
    places = ((at * stride + tap * dilation - pad) for at in range(out) for tap in range(kernel))
    return sum(0 <= place < extent for place in places)


def least_cycles(bound: RunBound, chip: NpuConfig) -> int:
    """Cycles that all launches of a run take together, at least."""
    limits = [
        Fraction(bound.read_bytes) / chip.hbm_bytes_per_cycle,
        sum((n * cost for n, cost in _blocks(bound.multiply_adds, chip)), Fraction(0)) / chip.cores_with("cube"),
    ]
    engines = engines_of(chip)
    limits.append(Fraction(bound.read_bytes, chip.cores_with("load") * max(engines["load"].rates.values())))
    writers = [(name, each) for name, each in engines.items() if name != "load"]
    rate = sum(chip.cores_with(name) * max(each.rates.values()) for name, each in writers)
    limits.append(Fraction(bound.written_bytes, rate))
    return floor(max(limits))


def _blocks(multiply_adds: Mapping[str, int], chip: NpuConfig) -> Iterator[tuple[Fraction, int]]:
    """By operand type the blocks of the cube that so many multiply-adds fill, and the cycles of each."""
    cube = chip.core.cube
    for dtype, count in multiply_adds.items():
        # Nothing else multiplies what the cube does not take: such a model does not run on the chip.
        if dtype in cube.cycles_per_block:
            block = Fraction(cube.m * cube.n * cube.k_bytes, DTYPES[dtype].item_bytes)
            yield count / block, cube.cycles_per_block[dtype]


def bound_figures(bound: RunBound, chip: NpuConfig, technology: Technology) -> Figures:
    """Limits of a run's figures; ConfigError when the technology does not price its multiply-adds."""
    cycles = least_cycles(bound, chip)
    # Without cycles nobody knows of a launch.
    launches = (cycles,) if cycles else ()
    work = Work(bound.multiply_adds, {}, {}, bound.read_bytes + bound.written_bytes, 0)
    # The cube reads both operands block by block.
    blocks, cube = floor(sum(n for n, _ in _blocks(bound.multiply_adds, chip))), chip.core.cube
    nbytes = {"l0a": blocks * cube.m * cube.k_bytes, "l0b": blocks * cube.n * cube.k_bytes}
    counts = Counts(launches, (len(launches),), {"hbm_read": bound.read_bytes, **nbytes}, work, 0, {}, {})
    energy = energy_of(counts, chip, technology)
    return Figures(
        latency_us(counts, chip) * _SLACK,
        interval_us(counts, chip) * _SLACK,
        energy.total.value / _PJ_PER_UJ * _SLACK,
        energy.seconds * _US_PER_S * _SLACK,
    )
