"""How much a kernel has to do, in cycles of one core, and how the cores of a chip are shared out by it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from math import prod

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import VIEWS
from npuvm.compiler.graph.ops_conv import CUBE_OPS, product_sizes
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES, Dim, TensorType
from npuvm.compiler.selection.legalize import legalize
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["apportion", "estimate_work", "product_blocks"]

_KEPT_GRAPHS = 256
_Operand = tuple[int, int]
"""Of a tensor the number of its shape, and the bytes of an element."""

_NO_WORK = frozenset((*VIEWS, "load", "store", "const", "size", "broadcast_to"))


def estimate_work(graph: Graph, binding: Mapping[str, int], chip: NpuConfig, isa: Isa) -> dict[str, float]:
    """Cycles by unit (cube, vector) if one core did it all; an estimate from the unit's rates and those of its DMA.

    Every operation of the legal form is charged one pass over its largest operand, at the rate of the chip's plainest vector
    instruction; products are charged their blocks. Parameters and outputs are moved once.
    """
    # An entry keeps graph and chip alive, so that an id names one of them.
    key = (id(graph), id(chip), isa.hash)
    found = _ESTIMATES.get(key)
    if found is None:
        found = _ESTIMATES[key] = graph, chip, _Estimate(graph, chip, isa)
        if len(_ESTIMATES) > _KEPT_GRAPHS:
            _ESTIMATES.popitem(last=False)
    return found[2].work(binding)


def apportion(cores: int, work: Sequence[float], fixed: Sequence[int | None]) -> list[int]:
    """Cores for each of several kernels, in proportion to their work: the one that would take longest gets the next.

    Each has one at least; `fixed` are the numbers that are pinned.
    """
    shares = [count or 1 for count in fixed]
    free = [index for index, count in enumerate(fixed) if count is None]
    for _ in range(cores - sum(shares)):
        if not free:
            break
        longest = max(free, key=lambda index: work[index] / shares[index])
        shares[longest] += 1
    return shares


class _Estimate:
    """What has to be counted of a graph: few different shapes, and how often each goes through a unit."""

    def __init__(self, graph: Graph, chip: NpuConfig, isa: Isa) -> None:
        self._chip = chip
        self._shapes: dict[tuple[Dim, ...], int] = {}
        casts = [(a, b) for a, b in isa.instruction("vcast").dtypes if b is not None]
        legal = legalize(graph, casts)
        passes: Counter[tuple[_Operand, ...]] = Counter()
        self._products = [node for node in legal.nodes if node.op in CUBE_OPS]
        for node in legal.nodes:
            if node.op not in CUBE_OPS and node.op not in _NO_WORK:
                passes[tuple(sorted({self._operand(each.type) for each in (*node.inputs, node)}))] += 1
        self._passes = list(passes.items())
        self._moved = [self._operand(each.type) for node in self._products for each in (*node.inputs, node)]
        self._read = [self._operand(each.type) for each in legal.params]
        self._written = [self._operand(each.type) for each in legal.outputs]
        core = chip.core
        self._pass_rate = core.vector.repeat_bytes / float(
            min(c.cycles_per_repeat for c in core.vector.classes.values())
        )

    def _operand(self, kind: TensorType) -> _Operand:
        return self._shapes.setdefault(kind.shape, len(self._shapes)), DTYPES[kind.dtype].item_bytes

    def work(self, binding: Mapping[str, int]) -> dict[str, float]:
        """Cycles by unit for concrete sizes."""
        counts = [prod(evaluate(shape, binding)) for shape in self._shapes]

        def nbytes(operands: Sequence[_Operand]) -> int:
            return sum([counts[shape] * item for shape, item in operands])

        core = self._chip.core
        cube = float(sum(product_blocks(node, binding, self._chip) for node in self._products))
        if self._products:
            cube = max(cube, nbytes(self._moved) / core.load.l1_bytes_per_cycle)
        passed = sum(times * max([counts[shape] * item for shape, item in each]) for each, times in self._passes)
        vector = passed / self._pass_rate
        if vector or not self._products:
            read, written = nbytes(self._read), nbytes(self._written)
            vector = max(vector, read / core.load.ub_bytes_per_cycle, written / core.store.bytes_per_cycle)
        return {"cube": cube, "vector": vector}


def product_blocks(node: Node, binding: Mapping[str, int], chip: NpuConfig) -> int:
    """Cube cycles of a product."""
    unit, dtype = chip.core.cube, node.inputs[0].type.dtype
    batch, m, n, k = product_sizes(node, binding)
    depth = max(1, unit.k_bytes // DTYPES[dtype].item_bytes)
    return batch * -(-m // unit.m) * -(-n // unit.n) * -(-k // depth) * unit.cycles_per_block.get(dtype, 1)


_ESTIMATES: OrderedDict[tuple[int, int, str], tuple[Graph, NpuConfig, _Estimate]] = OrderedDict()
