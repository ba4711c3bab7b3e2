"""Writes the programs of a relay: one for cores that have both units, or one for the cube core and one for the vector cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.walk import GridWalk
from npuvm.compiler.relay.cube import BlockProduct, Product
from npuvm.compiler.relay.handover import Side
from npuvm.compiler.relay.space import Exchange, RelaySpace
from npuvm.compiler.relay.vector import BlockRows, RowCuts
from npuvm.compiler.relay.walk import Run, walk_run
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.emit import part_context
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.tile import VectorTile
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["RelayParts", "write_relay"]


@dataclass(frozen=True, slots=True)
class RelayParts:
    """What a relay is written from; products in order, `groups` core groups that each have a block in every slot."""

    common: RelaySpace
    products: tuple[Product, ...]
    program: VecProgram
    storage: Storage
    cuts: RowCuts
    groups: int
    name: str
    chip: NpuConfig
    isa: Isa

    def slot_bytes(self, exchange: Exchange) -> int:
        """Bytes of a slot of what is handed over."""
        return self.groups * self.cuts.block * exchange.pitch * exchange.item


def write_relay(parts: RelayParts, grids: Sequence[tuple[Run, GridWalk]]) -> tuple[InstrBuilder, ...]:
    """The programs: of the cube core and of the vector cores, or of the cores that are both."""
    chip, common = parts.chip, parts.common
    together = chip.core.kind == "unified"
    handed = [name for name, each in (("given", common.given), ("taken", common.taken)) if each is not None]
    cube = BlockProduct(parts.products, chip.core_type_with("cube"), len(common.tensors), handed, parts.cuts.cores)
    products = [cube, *(cube.other(each) for each in parts.products[1:])]
    vector = cube.b
    if not together:
        vector = InstrBuilder(parts.isa, {"ub": chip.capacity_bytes("ub")}, parts.name, len(common.tensors))
        vector.barrier("group")
    sides: dict[str, Side] = {}
    for name, exchange, product in _handed(common, products):
        slot, handover = parts.slot_bytes(exchange), cube.handovers[name]
        if name == "given":
            unit = "store" if product.problem.via_ub else "fixpipe"
            product.side = Side.make(cube.b, name, handover, slot, unit, "producer")
            sides[exchange.name] = Side.make(vector, name, handover, slot, "load", "consumer")
        else:
            product.side = Side.make(cube.b, name, handover, slot, "load", "consumer")
            sides[exchange.name] = Side.make(vector, name, handover, slot, "store", "producer")
    tile = VectorTile(parts.cuts.rows, common.space.cols, 0.0)
    context = part_context(vector, common.space, parts.program, parts.storage, tile, common.tensors, chip)
    rows = BlockRows(context, parts.cuts, sides)
    blocks = [each.write_block for each in products]
    for run, walk in grids:
        if not together:
            walk_run(cube.b, run, walk, blocks[:1], blocks[1:])
            walk_run(vector, run, walk, [rows.write_block], [])
        elif common.before is not None:
            walk_run(cube.b, run, walk, blocks[:1], [rows.write_block, *blocks[1:]])
        else:
            walk_run(cube.b, run, walk, [rows.write_block], blocks)
    return (cube.b,) if together else (cube.b, vector)


def _handed(common: RelaySpace, products: Sequence[BlockProduct]) -> list[tuple[str, Exchange, BlockProduct]]:
    """What is handed over, with the product at its cube side."""
    found = []
    if common.given is not None:
        found.append(("given", common.given, products[0]))
    if common.taken is not None:
        found.append(("taken", common.taken, products[-1]))
    return found
