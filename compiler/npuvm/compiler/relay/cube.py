"""The products of a relay: the code for one block of rows, all columns of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from npuvm.compiler.cube.base import Step
from npuvm.compiler.cube.emit import MatmulEmitter
from npuvm.compiler.cube.extent import Extent, loop_extent
from npuvm.compiler.cube.levels import ring_slots
from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.handles import Loop, first, last
from npuvm.compiler.emit.symint import larger, several
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.relay.handover import Side, make_handovers
from npuvm.compiler.relay.levels import shared_slots
from npuvm.compiler.relay.walk import Place, Run, in_slot
from npuvm.hw.config import CoreType
from npuvm.isa import Pred

__all__ = ["BlockProduct", "Product"]


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a relay with its tile. `slot` names the operand that lies in a slot: "c" where it is handed on, else "a"."""

    spec: MatmulSpec
    problem: TileProblem
    tile: CubeTile
    slot: str


class BlockProduct(MatmulEmitter):
    """Writes one product; others of the same program share its builder and its buffers, which are as large as all need."""

    def __init__(
        self, products: tuple[Product, ...], core_type: CoreType, n_args: int, handed: Sequence[str], cores: int
    ) -> None:
        self._products_here, self._handed, self._cores = products, handed, cores
        self._alone = core_type == "unified"
        one = products[0]
        super().__init__(one.spec, one.problem, one.tile, core_type, n_args)
        self._take(one)
        self.side: Side | None = None

    def _begin(self) -> None:
        self.handovers = make_handovers(self.b, self._handed, self._cores)
        if not self._alone:
            self.b.barrier("group")

    def _some_bias(self) -> MatView | None:
        return next((each.spec.bias for each in self._products_here if each.spec.bias is not None), None)

    def _bias_preds(self, loops: Sequence[Loop]) -> tuple[Pred | None, Pred | None]:
        return None, None  # every tile of a block has other columns, and every product its own row

    def other(self, product: Product) -> BlockProduct:
        """The writer of another product."""
        made = copy(self)
        made._take(product)
        return made

    def _take(self, product: Product) -> None:
        self._set_product(product.spec, product.problem)
        self.tile = product.tile
        (self.m1, self.n1, self.k1), (self.m0, self.n0, self.k0) = product.tile.l1, product.tile.l0
        self.part_rows = self.m1
        self.slot = product.slot
        self._n_loop: Loop | None = None

    def _ring_slots(self) -> Mapping[str, int]:
        return shared_slots([ring_slots(each.problem, each.tile) for each in self._products_here], larger)

    def write_block(self, place: Place, run: Run) -> None:
        """All tiles of a block of rows, between waiting for its slot and handing that on."""
        assert self.side is not None
        self.side.begin(None)
        block = copy(self)
        block.m0 = block.part_rows = run.rows
        rows = Extent(run.rows, run.rows, None, run.rows)
        count = -(-self.spec.n // self.n1)
        if several(count):
            with self.b.loop(count) as loop:
                block._n_loop = loop
                inner = place.inside(Axis("n", count), loop)
                block._tile(Step(inner.walk, inner.loops, rows, loop_extent(self.spec.n, self.n1, loop)), self._ones)
        else:
            block._tile(Step(place.walk, place.loops, rows, loop_extent(self.spec.n, self.n1, None)), self._ones)
        self.side.end(None)

    # What is loaded once for all tiles of a block, and where what is handed over lies.

    def _changed(self, name: str, step: Step) -> Pred | None:
        return first(self._n_loop) if name == "a" and self._n_loop is not None else None

    def _changes(self, name: str, step: Step) -> Pred | None:
        return last(self._n_loop) if name == "a" and self._n_loop is not None else None

    def _walk_of(self, name: str, step: Step) -> GridWalk:
        return in_slot(step.walk) if name == self.slot else step.walk

    def _slot_of(self, name: str) -> Mapping[str, Any]:
        if name != self.slot or self.side is None:
            return {}
        return {"role": self.side.role, "ring": self.side.ring}
