"""How much a kernel has to do, in cycles of one core, and how the cores of a chip are shared out by it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import prod

from npuvm.compiler.ir import Graph, Node
from npuvm.compiler.legalize import legalize
from npuvm.compiler.ops import VIEWS
from npuvm.compiler.symbols import evaluate
from npuvm.compiler.types import DTYPES, TensorType
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["apportion", "estimate_work"]

_KEPT_GRAPHS = 256
_NO_WORK = frozenset((*VIEWS, "load", "store", "const", "size", "broadcast_to"))
_LEGAL: OrderedDict[tuple[int, str], tuple[Graph, Graph]] = OrderedDict()


def estimate_work(graph: Graph, binding: Mapping[str, int], chip: NpuConfig, isa: Isa) -> dict[str, float]:
    """Cycles by unit (cube, vector) if one core did it all; an estimate from the unit's rates and those of its DMA.

    Every operation of the legal form is charged one pass over its largest operand, at the rate of the chip's plainest vector
    instruction; products are charged their blocks. Parameters and outputs are moved once.
    """
    legal = _legal(graph, isa)
    cube = moved_l1 = vector = 0.0
    plain = min(each.cycles_per_repeat for each in chip.core.vector.classes.values())
    for node in legal.nodes:
        if node.op == "matmul":
            cube += _blocks(node, binding, chip)
            moved_l1 += sum(_nbytes(each.type, binding) for each in (*node.inputs, node))
        elif node.op not in _NO_WORK:
            largest = max(_nbytes(each.type, binding) for each in (*node.inputs, node))
            vector += largest / chip.core.vector.repeat_bytes * float(plain)
    read = sum(_nbytes(each.type, binding) for each in legal.params)
    written = sum(_nbytes(each.type, binding) for each in legal.outputs)
    if moved_l1:
        cube = max(cube, moved_l1 / chip.core.load.l1_bytes_per_cycle)
    if vector or not moved_l1:
        vector = max(vector, read / chip.core.load.ub_bytes_per_cycle, written / chip.core.store.bytes_per_cycle)
    return {"cube": cube, "vector": vector}


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


def _legal(graph: Graph, isa: Isa) -> Graph:
    """The legal form of a graph, kept for the graphs used last; an entry keeps its graph alive, so an id names one."""
    key = (id(graph), isa.hash)
    found = _LEGAL.get(key)
    if found is None:
        casts = [(a, b) for a, b in isa.instruction("vcast").dtypes if b is not None]
        found = _LEGAL[key] = graph, legalize(graph, casts)
        if len(_LEGAL) > _KEPT_GRAPHS:
            _LEGAL.popitem(last=False)
    return found[1]


def _blocks(node: Node, binding: Mapping[str, int], chip: NpuConfig) -> float:
    """Cube cycles of a product."""
    unit, dtype = chip.core.cube, node.inputs[0].type.dtype
    *batch, m, n = evaluate(node.type.shape, binding)
    k = evaluate(node.inputs[0].type.shape, binding)[-2 if node.attrs.get("transpose_a") else -1]
    depth = max(1, unit.k_bytes // DTYPES[dtype].item_bytes)
    blocks = prod(batch) * -(-m // unit.m) * -(-n // unit.n) * -(-k // depth)
    return float(blocks * unit.cycles_per_block.get(dtype, 1))


def _nbytes(kind: TensorType, binding: Mapping[str, int]) -> int:
    return prod(evaluate(kind.shape, binding)) * DTYPES[kind.dtype].item_bytes
