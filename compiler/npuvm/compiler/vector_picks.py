"""The loads of rows that a vector of indices directs, within the tiles of a vector segment."""

from __future__ import annotations

from dataclasses import replace

from npuvm.compiler.emit_handles import Arg, Buffer, Sem
from npuvm.compiler.picked_reads import index_ids
from npuvm.compiler.vector_lower import Reg, Shape, VecProgram
from npuvm.compiler.vector_space import Space, Transfer
from npuvm.compiler.vector_transfer import Issue, TileTransfer
from npuvm.isa import Pred

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
    preds: tuple[Pred | None, Pred | None],
) -> None:
    """Pick a tile's rows into the first ring by the indices in the second; `preds` say when these come and may go."""
    b, picks, (ring, vector) = transfer.builder, read.picks, rings
    assert picks is not None
    form = transfer.form(read, shape)
    waits, sets = list(issue.wait), list(issue.set)
    ready, free = _sem(vector.ready), _sem(vector.free)
    acquire, release = preds
    if acquire == issue.pred:
        waits.append(ready)
    else:
        b.sync("load", wait=[ready], pred=acquire)
    together = release == issue.pred
    transfer.pick(
        read,
        (tensor, ring, b.desc(vector, _INDEX_BYTES, role="consumer")),
        form,
        replace(issue, wait=waits, set=[*sets, free] if together else sets),
    )
    if not together:
        b.sync("load", set=[free], pred=release)


def _sem(sem: Sem | None) -> Sem:
    assert sem is not None
    return sem
