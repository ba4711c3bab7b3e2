"""The loads of rows that a vector of indices directs, within the tiles of a vector segment."""

from __future__ import annotations

from dataclasses import replace

from npuvm.compiler.emit.handles import Arg, Buffer
from npuvm.compiler.vector.lower import Reg, Shape, VecProgram
from npuvm.compiler.vector.picked_reads import index_ids
from npuvm.compiler.vector.space import Space, Transfer
from npuvm.compiler.vector.transfer import Issue, TileTransfer

__all__ = ["directs", "index_of", "load_picked"]

_INDEX_BYTES = 4


def directs(reg: Reg, space: Space) -> bool:
    """Whether a register has indices that only loads see."""
    return reg.read is not None and space.reads[reg.read].node.id in index_ids(space.reads)


def index_of(read: Transfer, space: Space, program: VecProgram) -> Reg:
    """The register of the indices of a read."""
    assert read.picks is not None
    for reg in program.regs:
        if reg.read is not None and space.reads[reg.read].node.id == read.picks.index:
            return reg
    raise AssertionError(f"the indices of %{read.node.id} are not read")


def load_picked(
    transfer: TileTransfer,
    read: Transfer,
    shape: Shape,
    tensor: Arg,
    rings: tuple[Buffer, Buffer],
    issue: Issue,
    own: tuple[Issue, Issue],
) -> None:
    """Pick a tile's rows into the first ring by the indices in the second; `own` says how these are awaited and given back."""
    b, (ring, vector), (acquire, release) = transfer.builder, rings, own
    waits, sets = list(issue.wait), list(issue.set)
    if acquire.pred == issue.pred:
        waits += acquire.wait
    else:
        b.sync("load", wait=acquire.wait, pred=acquire.pred)
    together = release.pred == issue.pred
    index = b.desc(vector, _INDEX_BYTES, role="consumer")
    with_own = replace(issue, wait=waits, set=[*sets, *release.set] if together else sets)
    transfer.pick(read, (tensor, ring, index), transfer.form(read, shape), with_own)
    if not together:
        b.sync("load", set=release.set, pred=release.pred)
