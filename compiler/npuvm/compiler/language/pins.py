"""Pins: the decisions of a schedule that an expert can fix.

What is not pinned the compiler chooses. What is pinned nothing overrides: a pin that cannot be honoured is a CompileError that
names the pin, its value and what is allowed.

Operands are named as the generated code names them. A matrix product has the accesses `a`, `b`, `bias` and `c` to global
memory, and the rings `l1.a`, `l1.b`, `l1.bias`, `l0a`, `l0b`, `l0c` and, on chips whose results leave through UB, `ub.c`. A
vector kernel has its parameters, outputs and temporaries by name.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from npuvm.compiler.errors import CompileError

__all__ = [
    "BUFFERINGS",
    "CACHE_POLICIES",
    "FUSIONS",
    "NO_PINS",
    "ORDERS",
    "PADS",
    "REDUCES",
    "STACKS",
    "Events",
    "Pins",
    "most_slots",
    "pin_error",
]

ORDERS = ("row", "column", "swizzle", "rounds")
CACHE_POLICIES = ("normal", "stream")
REDUCES = ("ordered", "atomic")
PADS = ("always", "never")
STACKS = ("launches", "mix", "sequence")
FUSIONS = ("none", "pattern", "stack", "both")
BUFFERINGS = ("auto", "single", "double")
_MOST_SLOTS = {"single": 1, "double": 2}
_LEVELS = {"vector": 2, "l1": 3, "l0": 3}


def most_slots(buffering: str | None, wanted: int) -> int:
    """Slots that a ring on chip has under a buffering, which would have so many `wanted` without one."""
    return wanted if buffering is None else min(wanted, _MOST_SLOTS[buffering])


def pin_error(pin: str, value: object, allowed: str, where: str | None = None) -> NoReturn:
    """Raise the CompileError of a pin that cannot be honoured."""
    raise CompileError(f"pin {pin} = {value!r} cannot be honoured; allowed: {allowed}", where)


@dataclass(frozen=True)
class Events:
    """Synchronisation by hand.

    The rings `operands` get no automatic waits and sets. `waits` and `sets` give, by instruction site, the semaphores
    to wait for and to set: those of a ring are `<ring>.ready` and `<ring>.free`, further ones are declared in
    `semaphores` with their first counts. A ring moves on when its ready (producer) or free (consumer) semaphore is set.
    The sites of a matrix product are those of `npuvm.compiler.cube.sync.SITES`.
    """

    operands: tuple[str, ...] = ()
    semaphores: Mapping[str, int] = field(default_factory=dict)
    waits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pins:
    """Pinned decisions; None or an empty mapping leaves the choice to the compiler.

    * `tile`: by level. `vector`: (rows, cols) of a vector tile. `l1`: (m, n, k) of what one core works on between two global
      accesses; the accumulators hold m x n of it. `l0`: (m, n, k) of one cube instruction; each divides its L1 size.
    * `l1_depth`: slots of the rings `l1.a` and `l1.b`. `l1_k`: k of one operand's tile at L1, by operand, where it is not
      that of the other: a multiple or a divisor of the k of tile l1.
    * `l0c_parts`: the accumulators of a tile go to the fixpipe, and come back to the cube, in so many parts of rows.
    * `cores`: number of cores launched; some have nothing to do when there are fewer tiles. `grid`: (rows, cols) of
      cores laid over the tiles; each core takes a rectangle of them. `part`: (m, n) of the result that one core of the grid
      computes at a time; tiles begin anew in each part, and part (i, j) belongs to core (i mod rows, j mod cols).
    * `start`: where each core starts in its own list of tiles: core c begins with its tile number start[c] (modulo
      their number), goes to the end of its list and then does the tiles before. One number s stands for (0, s, 2 s, ...).
    * `order`: order of the tiles. row: the last dimension is fastest. column: the rows are fastest. swizzle: bands of
      `swizzle_width` rows of tiles; within a band the rows are fastest. rounds: rows of tiles on cores of their own, as many
      columns side by side as cores are left for each; a core goes on by as many.
    * `ring_depth`: slots by ring. `address`: byte address by buffer (of its first slot).
    * `cache`: normal or stream by access to global memory.
    * `transfer`: (rows, cols) of one load instruction by access, in elements as they lie in memory; a tile is moved by
      as many as it takes.
    * `repeat`: most repeats of one vector instruction; longer ones are split.
    * `events`: synchronisation by hand.
    * `reduce`: how cores that share a sum join what they have. ordered (as without the pin): in the order of their parts, with
      the same bits on any number of cores. atomic: they add it to the result in memory, in the order in which they come.
    * `pad`: whether operands of products whose rows begin off blocks of memory are first copied to rows that do not, in the
      same launch. always, never, or, when it is not pinned, where that is estimated to be faster.
    * `split_k`: in how many parts of k, which they must divide, cores share each product: sums of parts go to a workspace, and
      are added up in their order, in the same launch. 1: never. When it is not pinned, as is estimated to be fastest.
    * `stack`: what a kernel of several segments becomes; when it is not pinned, a launch for each, but a product together
      with what follows it where that is estimated to be faster. launches: one launch for each segment. mix: one for
      segments that can share a program, whatever the estimate; no other pin goes with it. sequence: one launch for all
      of them, with barriers on the device between segments that depend on each other.
    * `fusion`: which operators share a program, and which programs a launch; no other pin goes with it but pad, reduce and
      split_k. none: each operator of the source (`KernelBuilder.source`) has a program and a launch of its own. pattern:
      operators share programs where that is estimated to be faster, each program has a launch. stack: programs as with none,
      in as few launches as possible. both: programs as with pattern, in as few launches as is estimated to be faster.
    * `buffering`: slots of the rings on chip, of all kernels and buffers; it goes with every other pin. single: one, so that
      what fills a ring and what empties it take turns. double: at most two. auto is None: what the compiler takes.
    """

    tile: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    l1_depth: int | None = None
    l1_k: Mapping[str, int] = field(default_factory=dict)
    l0c_parts: int | None = None
    cores: int | None = None
    grid: tuple[int, int] | None = None
    part: tuple[int, int] | None = None
    start: int | tuple[int, ...] | None = None
    order: str | None = None
    swizzle_width: int | None = None
    ring_depth: Mapping[str, int] = field(default_factory=dict)
    address: Mapping[str, int] = field(default_factory=dict)
    cache: Mapping[str, str] = field(default_factory=dict)
    transfer: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    repeat: int | None = None
    events: Events | None = None
    stack: str | None = None
    reduce: str | None = None
    pad: str | None = None
    split_k: int | None = None
    fusion: str | None = None
    buffering: str | None = None

    def __post_init__(self) -> None:
        for name in ("tile", "l1_k", "ring_depth", "address", "cache", "transfer"):
            if not isinstance(getattr(self, name), Mapping):
                pin_error(name, getattr(self, name), "a mapping")
        if self.events is not None and not isinstance(self.events, Events):
            pin_error("events", self.events, "an Events")
        for level, shape in self.tile.items():
            if level not in _LEVELS:
                pin_error(f"tile.{level}", shape, f"levels {', '.join(_LEVELS)}")
            _sizes(f"tile.{level}", shape, _LEVELS[level])
        for name in ("l1_depth", "l0c_parts", "cores", "swizzle_width", "repeat", "split_k"):
            value = getattr(self, name)
            if value is not None and (not _whole(value) or value < 1):
                pin_error(name, value, "1 or more")
        for operand, k in self.l1_k.items():
            if operand not in ("a", "b") or not _whole(k) or k < 1:
                pin_error(f"l1_k.{operand}", k, "1 or more for a, b or both")
        for operand, depth in self.ring_depth.items():
            if not _whole(depth) or not 1 <= depth <= 255:
                pin_error(f"ring_depth.{operand}", depth, "1 to 255")
        for operand, address in self.address.items():
            if not _whole(address):
                pin_error(f"address.{operand}", address, "a whole number of bytes")
        if self.stack not in (None, *STACKS):
            pin_error("stack", self.stack, ", ".join(STACKS))
        if self.reduce not in (None, *REDUCES):
            pin_error("reduce", self.reduce, ", ".join(REDUCES))
        if self.pad not in (None, *PADS):
            pin_error("pad", self.pad, ", ".join(PADS))
        if self.fusion not in (None, *FUSIONS):
            pin_error("fusion", self.fusion, ", ".join(FUSIONS))
        if self.fusion is not None and self.stack is not None:
            pin_error("fusion", self.fusion, f"none beside stack = {self.stack!r}")
        self._check_buffering()
        if self.grid is not None:
            _sizes("grid", self.grid, 2)
        for operand, shape in self.transfer.items():
            _sizes(f"transfer.{operand}", shape, 2)
        for operand, policy in self.cache.items():
            if policy not in CACHE_POLICIES:
                pin_error(f"cache.{operand}", policy, ", ".join(CACHE_POLICIES))
        self._check_walk()

    def _check_buffering(self) -> None:
        if self.buffering not in (None, *BUFFERINGS):
            pin_error("buffering", self.buffering, ", ".join(BUFFERINGS))
        if self.buffering in (None, "auto"):
            # One form of what nobody asked for, so that equal pins have equal keys.
            object.__setattr__(self, "buffering", None)
            return
        most = _MOST_SLOTS[self.buffering]
        given = {"l1_depth": self.l1_depth, "l0c_parts": self.l0c_parts}
        given |= {f"ring_depth.{operand}": depth for operand, depth in self.ring_depth.items()}
        for pin, slots in given.items():
            if slots is not None and slots > most:
                pin_error(pin, slots, f"{most} or less beside buffering = {self.buffering!r}")

    def _check_walk(self) -> None:
        if self.order is not None and self.order not in ORDERS:
            pin_error("order", self.order, ", ".join(ORDERS))
        if (self.order == "swizzle") != (self.swizzle_width is not None):
            pin_error("swizzle_width", self.swizzle_width, "a width with order = 'swizzle', none otherwise")
        if self.grid is not None:
            if self.order in ("swizzle", "rounds"):
                pin_error("order", self.order, "row or column together with a grid of cores")
            if self.cores not in (None, self.grid[0] * self.grid[1]):
                pin_error("cores", self.cores, f"{self.grid[0] * self.grid[1]}, the cores of grid {self.grid}")
        if self.part is not None:
            _sizes("part", self.part, 2)
            if self.grid is None or self.start is not None:
                pin_error("part", self.part, "a part together with a grid of cores and without start")
        starts = self.start if isinstance(self.start, list | tuple) else () if self.start is None else (self.start,)
        if any(not _whole(offset) or offset < 0 for offset in starts):
            pin_error("start", self.start, "offsets of 0 or more")

    def key(self) -> Hashable:
        """What a program cache compares: equal pins have equal keys."""
        return tuple(_frozen(getattr(self, each.name)) for each in fields(self))

    def __hash__(self) -> int:
        return hash(self.key())

    def check_names(self, pin: str, names: Collection[str], where: str | None = None) -> None:
        """CompileError when pin `ring_depth`, `address`, `cache` or `transfer` names an operand that is not in `names`."""
        given: Mapping[str, object] = getattr(self, pin)
        for operand, value in given.items():
            if operand not in names:
                pin_error(f"{pin}.{operand}", value, f"operands {', '.join(names) or '(none)'}", where)

    def start_offsets(self, cores: int) -> tuple[int, ...]:
        """Start offset of every core of the launch."""
        if self.start is None:
            return (0,) * cores
        if isinstance(self.start, int):
            return tuple(self.start * core for core in range(cores))
        if len(self.start) != cores:
            pin_error("start", self.start, f"one offset for each of the {cores} cores of the launch")
        return self.start


NO_PINS = Pins()
"""Those of a kernel that sets none: one object for all, since whether it has any is asked first of a kernel."""


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _sizes(pin: str, shape: object, count: int) -> None:
    if not isinstance(shape, list | tuple) or len(shape) != count or any(not _whole(n) or n < 1 for n in shape):
        pin_error(pin, shape, f"{count} sizes of 1 or more")


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _frozen(item)) for name, item in value.items()))
    if isinstance(value, Events):
        return tuple(_frozen(getattr(value, each.name)) for each in fields(value))
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    frozen: Hashable = value
    return frozen
