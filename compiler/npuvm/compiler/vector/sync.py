"""Waits and sets of a vector segment: automatic from its rings, or by hand where pinned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from npuvm.compiler.emit.handles import Buffer, Sem
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Events, pin_error

__all__ = ["VectorSync"]


class VectorSync:
    """Semaphores to wait for and to set at each site.

    Sites: `load.<ring>` and `store.<tensor>` (waits at the first, sets at the last instruction of a tile's transfer), and
    `vector.acquire` and `vector.release`, empty vector instructions at the start and the end of each tile.
    """

    def __init__(
        self, events: Events | None, rings: Mapping[str, Buffer], declared: Mapping[str, Sem], stores: Collection[str]
    ) -> None:
        self._events = events or Events()
        self._named = dict(declared)
        self._manual: set[Sem] = set()
        for name, ring in rings.items():
            for end, sem in (("ready", ring.ready), ("free", ring.free)):
                if sem is None:
                    raise CompileError(f"buffer '{name}' is no ring")
                self._named[f"{name}.{end}"] = sem
                if name in self._events.operands:
                    self._manual.add(sem)
        loads = [f"load.{name}" for name, ring in rings.items() if ring.producer == "load"]
        self._check(rings, [*loads, *(f"store.{name}" for name in stores), "vector.acquire", "vector.release"])

    def waits(self, site: str, automatic: Iterable[Sem] = ()) -> list[Sem]:
        """Automatic waits of rings that are not synchronised by hand, and those given by hand for the site."""
        return self._kept(automatic) + [self._named[name] for name in self._events.waits.get(site, ())]

    def sets(self, site: str, automatic: Iterable[Sem] = ()) -> list[Sem]:
        """The same for sets."""
        return self._kept(automatic) + [self._named[name] for name in self._events.sets.get(site, ())]

    def _kept(self, semaphores: Iterable[Sem]) -> list[Sem]:
        return [sem for sem in semaphores if sem not in self._manual]

    def _check(self, rings: Mapping[str, Buffer], sites: Collection[str]) -> None:
        for operand in self._events.operands:
            if operand not in rings:
                pin_error("events.operands", operand, f"rings {', '.join(rings)}")
        for field, given in (("waits", self._events.waits), ("sets", self._events.sets)):
            for site, names in given.items():
                if site not in sites:
                    pin_error(f"events.{field}", site, f"sites {', '.join(sites)}")
                for name in names:
                    if name not in self._named:
                        pin_error(f"events.{field}.{site}", name, f"semaphores {', '.join(self._named)}")
