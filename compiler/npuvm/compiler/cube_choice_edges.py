"""What the edges of a tile of a matrix product cost by themselves, for the bounds of `cube_choice`."""

from __future__ import annotations

from math import gcd, sqrt

from npuvm.compiler.cube_cost import ProductCost

__all__ = ["Line", "Slower", "TileEdges"]

Line = tuple[int, int, int, int, float, float, float]
"""An edge for sizes that are known: its number, what of it is in the matrix, and how many tiles that makes.

Then, for all of k: blocks of the cube, cycles of the move to L0, of the load by itself, and of the load for each core that
shares L2.
"""

Slower = tuple[float, float, float]
"""Times of loads in steps of k against those of all of k at once: by the port, from L2, and from main memory."""


class TileEdges:
    """Costs of rows and edges with the rates of an estimate. Those of `ks`, the k that tiles have at L1, are kept."""

    def __init__(self, cost: ProductCost, ks: list[int]) -> None:
        self._cost, self._ks = cost, ks
        self._lengths = [self._served(k * cost.item) for k in ks]
        self._ports = [self._row(k * cost.item, 0) for k in ks]

    def along(self, edges: list[int], size: int, k: int, pitch: int, block: int, rate: float) -> list[Line]:
        """Edges of an operand whose rows in memory follow k."""
        cost = self._cost
        nbytes = k * cost.item
        each, shared = self._row(nbytes, pitch), nbytes / cost.l2
        unit, count = cost.slices
        apart = self._apart(pitch, unit, count) if nbytes != pitch else 0
        reach = -(-nbytes // unit) / count
        found = []
        before = 0
        for at, edge in enumerate(edges):
            cuts = -(-size // edge)
            if cuts != before:
                before = cuts
                own = edge if edge < size else size
                spread = sqrt(min(1.0, min(apart, own) * reach)) if apart else 1.0
                found.append((at, own, cuts, -(-own // block), own * nbytes / rate, own * each, own * shared / spread))
            if edge >= size:
                break
        return found

    def across(self, edges: list[int], size: int, k: int, pitch: int, block: int, rate: float) -> list[Line]:
        """Edges of an operand whose rows in memory follow the edge."""
        cost = self._cost
        item, cores = cost.item, cost.cores
        unit, count = cost.slices
        apart = min(self._apart(pitch, unit, count), k)
        move, shared = k * item / rate, k * item / cost.l2
        found = []
        before = 0
        for at, edge in enumerate(edges):
            cuts = -(-size // edge)
            if cuts != before:
                before = cuts
                own = edge if edge < size else size
                nbytes = own * item
                load = k * self._row(nbytes, pitch)
                spread = 1.0
                if apart and nbytes != pitch:
                    spread = sqrt(min(1.0, apart * -(-nbytes // unit) * min(cuts, cores) / count))
                found.append((at, own, cuts, -(-own // block), own * move, load, own * shared / spread))
            if edge >= size:
                break
        return found

    def slower(self, cuts: list[tuple[int, int]], k: int, pitch: int) -> tuple[float, list[Slower]]:
        """The share of main memory that rows along all of k reach; for the numbers and steps of smaller k, their times."""
        cost, ports, lengths = self._cost, self._ports, self._lengths
        whole = k * cost.item
        port, length = self._row(whole, pitch), whole
        if cost.hashed or pitch % cost.slices[0]:
            return 1.0, [(steps * ports[at] / port, steps * lengths[at] / length, 1.0) for at, steps in cuts]
        reached, far = 1.0, 1.0
        if whole != pitch:
            reached, far = self._spread(whole, pitch, *cost.slices), self._spread(whole, pitch, *cost.channels)
        found = []
        for at, steps in cuts:
            row = self._ks[at] * cost.item
            near = self._spread(row, pitch, *cost.slices) / reached
            found.append(
                (
                    steps * ports[at] / port,
                    steps * lengths[at] / (length * near),
                    1.0 / self._spread(row, pitch, *cost.channels),
                )
            )
        return far, found

    def _spread(self, nbytes: int, pitch: int, unit: int, count: int) -> float:
        """Share of memory servers that many rows along k reach."""
        apart = self._apart(pitch, unit, count)
        return sqrt(min(1.0, apart * -(-nbytes // unit) / count)) if apart else 1.0

    def _row(self, nbytes: int, pitch: int) -> float:
        """Cycles of a row of a load by itself."""
        cost = self._cost
        if nbytes == pitch:
            return max(nbytes / cost.port, nbytes / cost.chunk * cost.in_flight)
        burst = (nbytes if nbytes > cost.burst else cost.burst) / cost.port
        waits = -(-nbytes // cost.chunk) * cost.in_flight
        taken = burst if burst > waits else waits
        return taken if taken > cost.load_row else cost.load_row

    def _apart(self, pitch: int, unit: int, count: int) -> int:
        """How many of `count` memory servers, interleaved by `unit` bytes, rows begin in; 0 where they are all alike."""
        return 0 if self._cost.hashed or not pitch or pitch % unit else count // gcd(pitch // unit, count)

    def _served(self, nbytes: int) -> float:
        """Bytes for which a row keeps L2 busy."""
        cost = self._cost
        if cost.access == 1:
            return nbytes
        aligned = min(nbytes & -nbytes, cost.line) / cost.line
        cut = 1 - aligned if cost.chunk % cost.line == 0 else 1
        return max(nbytes, (1 + nbytes / cost.line - aligned + (-(-nbytes // cost.chunk) - 1) * cut) * cost.access)
