"""Waits and sets of a matrix product: automatic from its rings, or by hand where pinned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from npuvm.compiler.emit.handles import Buffer, Sem
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Events, pin_error

__all__ = ["SITES", "SyncSites"]

SITES: Mapping[str, str] = {
    "load.a": "load: the last load instruction of a tile of a (waits: the first one)",
    "load.b": "load: the same for b",
    "load.bias": "load: the same for the bias",
    "move.acquire": "move: before the moves of one L1 tile",
    "move.a": "move: one L0 tile of a",
    "move.b": "move: one L0 tile of b",
    "move.bias": "move: the bias of a tile",
    "move.release": "move: after the moves of one L1 tile",
    "cube.acquire": "cube: before the first product of a tile",
    "mma": "cube: every product",
    "cube.release": "cube: after the last product of a tile",
    "fix": "fixpipe: the accumulators of a tile out",
    "store": "store: the result of a tile from UB",
}
"""Instruction sites of a matrix product, each with its unit and its place."""


class SyncSites:
    """Semaphores to wait for and to set at each site."""

    def __init__(self, events: Events | None, rings: Mapping[str, Buffer], declared: Mapping[str, Sem]) -> None:
        self._by_hand = events or Events()
        self._semaphores = dict(declared)
        self._automatic: set[Sem] = set()
        for name, ring in rings.items():
            for end, sem in (("ready", ring.ready), ("free", ring.free)):
                if sem is None:
                    raise CompileError(f"buffer '{name}' is no ring")
                self._semaphores[f"{name}.{end}"] = sem
                if name not in self._by_hand.operands:
                    self._automatic.add(sem)
        self._check(rings)

    def waits(self, site: str, automatic: Iterable[Sem | None] = ()) -> list[Sem]:
        """The automatic waits of rings that are not synchronised by hand, and those given by hand for the site."""
        return self._kept(automatic) + self._named(self._by_hand.waits, site)

    def sets(self, site: str, automatic: Iterable[Sem | None] = ()) -> list[Sem]:
        """The same for sets."""
        return self._kept(automatic) + self._named(self._by_hand.sets, site)

    def _kept(self, semaphores: Iterable[Sem | None]) -> list[Sem]:
        return [sem for sem in semaphores if sem in self._automatic]

    def _named(self, given: Mapping[str, tuple[str, ...]], site: str) -> list[Sem]:
        return [self._semaphores[name] for name in given.get(site, ())]

    def add_automatic(self, *semaphores: Sem) -> None:
        """Semaphores beside the rings that are never given by hand."""
        self._automatic.update(semaphores)

    def _check(self, rings: Mapping[str, Buffer]) -> None:
        for operand in self._by_hand.operands:
            if operand not in rings:
                pin_error("events.operands", operand, f"rings {', '.join(rings)}")
        for field, given in (("waits", self._by_hand.waits), ("sets", self._by_hand.sets)):
            for site, names in given.items():
                if site not in SITES:
                    pin_error(f"events.{field}", site, f"sites {', '.join(SITES)}")
                for name in names:
                    if name not in self._semaphores:
                        pin_error(f"events.{field}.{site}", name, f"semaphores {', '.join(self._semaphores)}")
