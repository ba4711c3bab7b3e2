"""A slow interpreter of programs, one instruction at a time, and a generator of random programs: the oracle of expansion."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from npuvm.isa import Insn, Isa, Pred, decode_program

SPACES = ("gm", "ub", "l1", "l0a", "l0b", "l0c")


@dataclass
class Costs:
    """Cycles of the sequencer."""

    word: int
    dispatch: int
    branch: int
    scalar: int
    start: int


@dataclass
class Interpreter:
    """Follows one core's program; `out` collects what it does as plain tuples.

    ("insn", pc, gap, addresses, sizes, origin), ("sems", gap, values), ("barrier", gap, scope),
    ("load", gap, address), ("halt", gap). `shares` are the parts of each grid that the core has, from 0 to 1; `ranges`
    becomes the tiles that these are.
    """

    isa: Isa
    words: Any
    costs: Costs
    shares: Sequence[tuple[float, float]]
    loads: list[int] = field(default_factory=list)
    out: list[tuple[Any, ...]] = field(default_factory=list)

    def run(self) -> list[tuple[Any, ...]]:
        self.ranges = [(0, 0)] * len(self.shares)
        self.code = decode_program(self.isa, self.words)
        self.sizes: dict[int, dict[str, Any]] = {}
        self.descs: dict[int, dict[str, Any]] = {}
        self.rings: dict[int, dict[str, int]] = {}
        self.regs = [0] * 16
        self.c = [0] * 8
        self.trip: dict[int, int] = {}
        self.tile: tuple[Any, ...] = ()
        self.clock = self.costs.start
        self.block(0)
        return self.out

    def words_of(self, at: int) -> int:
        end = self.code[at + 1][0] if at + 1 < len(self.code) else len(self.words)
        return end - self.code[at][0]

    def take(self) -> int:
        gap, self.clock = self.clock, 0
        return gap

    def block(self, at: int) -> int:
        """Execute from instruction `at` to the end of the enclosing loop; return where that is."""
        while True:
            pc, insn = self.code[at]
            op, a = insn.op, insn.args
            if op in ("endloop", "endgrid"):
                return at
            is_setup = op in ("szc", "szt", "sza", "szr", "desc", "dstr", "dwin", "ring", "sem")
            self.clock += self.words_of(at) * self.costs.word
            if op == "halt":
                self.out.append(("halt", self.take()))
                return at
            if op == "barrier":
                self.out.append(("barrier", self.take(), ("core", "group", "launch")[a["scope"]]))
            elif is_setup:
                self.set_up(insn)
            elif op == "loop":
                at = self.loop(at)
            elif op == "grid":
                at = self.grid(at)
            elif self.on(insn):
                if op in ("li", "lds", "sadd", "ssub", "smul", "scdiv", "smin", "slt"):
                    self.scalar(insn)
                elif op != "nop":
                    self.leaf(pc, insn)
            at += 1

    def set_up(self, insn: Insn) -> None:
        a, op = dict(insn.args), insn.op
        if op.startswith("sz"):
            self.sizes[a["size"]] = {**a, "op": op}
        elif op == "desc":
            self.descs[a["desc"]] = {**a, "strides": [0] * 8, "window": None}
        elif op == "dstr":
            self.descs[a["desc"]]["strides"][a["loop"]] += a["stride"]
        elif op == "dwin":
            self.descs[a["desc"]]["window"] = a
        elif op == "ring":
            self.rings[a["ring"]] = {**a, "produced": 0, "consumed": 0}
            self.out.append(("sems", self.take(), {a["ready"]: 0, a["free"]: a["slots"]}))
        else:
            self.out.append(("sems", self.take(), {a["sem"]: a["value"]}))

    def size(self, index: int) -> int:
        s = self.sizes[index]
        if s["op"] == "szc":
            return int(s["full"])
        if s["op"] == "szt":
            return int(s["tail"] if self.c[s["loop"]] == self.trip[s["loop"]] - 1 else s["full"])
        if s["op"] == "szr":
            return clamp(self.regs[s["reg"]], s["full"])
        value = s["base"] + s["step_a"] * self.c[s["loop_a"]] + s["step_b"] * self.c[s["loop_b"]]
        return clamp(value, s["full"])

    def loop(self, at: int) -> int:
        a = self.code[at][1].args
        self.clock += self.costs.branch
        trips = self.size(a["trip"])
        end = self.skip(at, "loop", "endloop")
        for i in range(trips):
            self.c[a["loop"]], self.trip[a["loop"]] = i, trips
            self.block(at + 1)
            self.clock += self.costs.word + self.costs.branch
        self.c[a["loop"]] = 0
        if not trips:
            self.pass_over(at, end)
        return end

    def pass_over(self, at: int, end: int) -> None:
        """Decode a body that has no iteration, and its end, without effect."""
        self.clock += (self.code[end][0] + 1 - self.code[at + 1][0]) * self.costs.word

    def skip(self, at: int, begin: str, end: str) -> int:
        depth = 0
        while True:
            op = self.code[at][1].op
            depth += (op == begin) - (op == end)
            if depth == 0:
                return at
            at += 1

    def grid(self, at: int) -> int:
        a = self.code[at][1].args
        self.clock += self.costs.branch
        n = a["loops"]
        tiles: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

        def odometer(level: int) -> None:
            if level == n:
                tiles.append((tuple(self.c[:n]), tuple(self.trip[k] for k in range(n))))
                return
            trips = self.size(a[f"t{level}"])
            for i in range(trips):
                self.c[level], self.trip[level] = i, trips
                odometer(level + 1)
            self.c[level] = 0

        odometer(0)
        begin, end = sorted(self.shares[a["phase"]])
        start, stop = self.ranges[a["phase"]] = (int(begin * len(tiles)), round(end * len(tiles)))
        mine = tiles[start:stop]
        for i, (counters, trips) in enumerate(mine):
            self.c[:n] = counters
            self.trip.update(enumerate(trips))
            self.tile = (mine[i - 1][0] if i else None, mine[i + 1][0] if i + 1 < len(mine) else None)
            self.block(at + 1)
            self.clock += self.costs.word + self.costs.branch
        self.c[:n] = [0] * n
        end = self.skip(at, "grid", "endgrid")
        if not mine:
            self.pass_over(at, end)
        return end

    def on(self, insn: Insn) -> bool:
        if insn.pred is None:
            return True
        kind = insn.pred.kind
        loops = [k for k in range(8) if insn.pred.mask >> k & 1]
        if kind in ("changed", "changes"):
            other = self.tile[0 if kind == "changed" else 1]
            return other is None or any(other[k] != self.c[k] for k in loops)
        at_first = all(self.c[k] == 0 for k in loops)
        at_last = all(self.c[k] == self.trip[k] - 1 for k in loops)
        return {"first": at_first, "not_first": not at_first, "last": at_last, "not_last": not at_last}[kind]

    def scalar(self, insn: Insn) -> None:
        a, regs = insn.args, self.regs
        if insn.op == "lds":
            d = self.descs[a["src"]]
            self.out.append(("load", self.take(), self.address(d)))
            value = self.loads.pop(0)
        else:
            self.clock += self.costs.scalar
            if insn.op == "li":
                value = a["imm"]
            else:
                x, y = regs[a["ra"]], regs[a["rb"]]
                value = {
                    "sadd": x + y,
                    "ssub": x - y,
                    "smul": x * y,
                    "scdiv": -(-x // y) if insn.op == "scdiv" else 0,
                    "smin": min(x, y),
                    "slt": int(x < y),
                }[insn.op]
        regs[a["rd"]] = (value + 2**63) % 2**64 - 2**63

    def address(self, d: dict[str, Any]) -> int:
        result = d["base"] + self.regs[d["reg"]] * d["reg_stride"]
        return int(result) + int(sum(s * c for s, c in zip(d["strides"], self.c, strict=True)))

    def leaf(self, pc: int, insn: Insn) -> None:
        self.clock += self.costs.dispatch
        spec = self.isa.instruction(insn.op)
        addresses, origin = [], (0, 0)
        for operand in spec.regions:
            d = self.descs[insn.args[operand.name]]
            address = self.address(d)
            if d["role"]:
                ring = self.rings[d["ring"]]
                count = ring["produced"] if d["role"] == 1 else ring["consumed"]
                address += count % ring["slots"] * ring["slot_bytes"]
            addresses.append(address)
            if d["window"]:
                w = d["window"]
                row = w["row0"] + w["row_step"] * self.c[w["row_loop"]]
                origin = (row, w["col0"] + w["col_step"] * self.c[w["col_loop"]])
        sizes = [self.size(insn.args[s.name]) for s in spec.sizes]
        self.out.append(("insn", pc, self.take(), tuple(addresses), tuple(sizes), origin))
        for ring in self.rings.values():
            ring["produced"] += ring["ready"] in insn.set
            ring["consumed"] += ring["free"] in insn.set


def clamp(value: int, high: int) -> int:
    """The value, from 0 to `high`."""
    return max(0, min(high, value))


class Generator:
    """Random programs that the expansion accepts."""

    def __init__(self, seed: int, scalars: bool = True) -> None:
        self.r = random.Random(seed)
        self.scalars = scalars
        self.insns: list[Insn] = []
        self.shares: list[tuple[float, float]] = []

    def emit(self, op: str, **args: int) -> None:
        self.insns.append(Insn(op, args=args))

    def program(self) -> tuple[list[Insn], list[tuple[float, float]]]:
        for _ in range(self.r.randint(1, 3)):
            self.tables()
            for _ in range(self.r.randint(1, 2)):
                if self.r.random() < 0.6:
                    self.grid()
                else:
                    self.nodes(0, 0, self.r.randint(1, 4))
            if self.r.random() < 0.5:
                self.emit("barrier", scope=self.r.randint(0, 2))
        self.emit("halt")
        return self.insns, self.shares

    def tables(self) -> None:
        r = self.r
        for size in range(4):
            self.emit("szc", size=size, full=r.randint(0 if size == 3 else 1, 4))
        for loop in range(6):
            self.emit("szt", size=4 + loop, loop=loop, full=r.randint(1, 5), tail=r.randint(0, 5))
        for size in range(10, 13):
            self.emit(
                "sza", size=size, loop_a=r.randint(0, 7), loop_b=r.randint(0, 7), full=r.randint(1, 4),
                base=r.randint(-1, 4), step_a=r.randint(-2, 2), step_b=r.randint(-1, 1),
            )  # fmt: skip
        self.emit("szr", size=13, reg=r.randint(0, 3), full=3)
        for ring in range(3):
            if r.random() < 0.7 or not self.insns_have_ring(ring):
                slots, slot_bytes = r.randint(1, 4), 64 * r.randint(1, 9)
                self.emit("ring", ring=ring, slot_bytes=slot_bytes, slots=slots, ready=2 * ring, free=2 * ring + 1)
        if r.random() < 0.3:
            self.emit("sem", sem=30, value=r.randint(0, 5))
        for desc in range(8):
            gm = desc >= 6
            self.emit(
                "desc", desc=desc, space=0 if gm else 1, base=64 * r.randint(0, 50), pitch=32 * r.randint(0, 8),
                role=0 if gm else r.choice((0, 1, 2)), ring=r.randint(0, 2), reg=r.randint(0, 3),
                reg_stride=r.choice((0, 0, -32, 64)),
            )  # fmt: skip
            for _ in range(r.randint(0, 3)):
                self.emit("dstr", desc=desc, loop=r.randint(0, 7), stride=r.randint(-100, 100) * 4)
            if gm and r.random() < 0.7:
                self.emit(
                    "dwin", desc=desc, row0=r.randint(-3, 3), col0=r.randint(-3, 3), rows=r.randint(0, 9), cols=r.randint(0, 9),
                    row_step=r.randint(-2, 2), col_step=r.randint(-2, 2), row_loop=r.randint(0, 7), col_loop=r.randint(0, 7),
                )  # fmt: skip

    def insns_have_ring(self, ring: int) -> bool:
        return any(insn.op == "ring" and insn.args["ring"] == ring for insn in self.insns)

    def grid(self) -> None:
        r = self.r
        loops = r.randint(1, 3)
        trips = [r.choice((0, 1, 2, 2, 13))]
        for level in range(1, loops):
            trips.append(r.choice((0, 1, 2, 13, 4 + level - 1, 10, 11)))
        self.shares.append((r.choice((0.0, r.random())), r.choice((1.0, r.random()))))
        self.emit("grid", loops=loops, phase=len(self.shares) - 1, **{f"t{i}": t for i, t in enumerate(trips)})
        self.nodes((1 << loops) - 1, 1, r.randint(1, 5), (1 << loops) - 1)
        self.emit("endgrid")

    def nodes(self, open_loops: int, depth: int, count: int, grid: int = 0) -> None:
        for _ in range(count):
            kind = self.r.random()
            if kind < 0.3 and depth < 4:
                free = [k for k in range(8) if not open_loops >> k & 1]
                loop = self.r.choice(free)
                self.emit("loop", loop=loop, trip=self.any_size(open_loops, small=True))
                self.nodes(open_loops | 1 << loop, depth + 1, self.r.randint(0, 3), grid)
                self.emit("endloop")
            elif kind < 0.37 and self.scalars:
                self.scalar(open_loops, grid)
            else:
                self.leaf(open_loops, grid)

    def any_size(self, open_loops: int, small: bool = False) -> int:
        tails = [4 + k for k in range(6) if open_loops >> k & 1]
        return self.r.choice([0, 1, 2, 3, 10, 11, 12, 13, *tails])

    def predicate(self, open_loops: int, grid: int) -> Pred | None:
        if self.r.random() < 0.6 or not open_loops:
            return None
        if grid and self.r.random() < 0.5:
            return Pred(self.r.choice(("changed", "changes")), self.r.randint(0, 255) & grid)
        return Pred(self.r.choice(("first", "last", "not_first", "not_last")), self.r.randint(0, 255) & open_loops)

    def scalar(self, open_loops: int, grid: int) -> None:
        r = self.r
        pred = self.predicate(open_loops, grid)
        kind = r.choice(("li", "li", "sadd", "ssub", "smul", "smin", "slt", "lds", "nop"))
        rd = r.randint(0, 3)
        if kind == "li":
            self.insns.append(Insn("li", args={"rd": rd, "imm": r.randint(-3, 6)}, pred=pred))
        elif kind == "lds":
            self.insns.append(Insn("lds", "int32", args={"rd": rd, "src": r.choice((6, 7))}, pred=pred))
        elif kind == "nop":
            self.insns.append(Insn("nop", pred=pred))
        else:
            self.insns.append(Insn(kind, args={"rd": rd, "ra": r.randint(0, 3), "rb": r.randint(0, 3)}, pred=pred))

    def leaf(self, open_loops: int, grid: int) -> None:
        r = self.r
        sizes = {"rows": self.any_size(open_loops), "cols": self.any_size(open_loops)}
        sets = tuple(dict.fromkeys(r.choice((0, 1, 2, 3, 20)) for _ in range(r.randint(0, 2))))
        waits = tuple(dict.fromkeys(r.choice((0, 1, 2, 3)) for _ in range(r.randint(0, 2))))
        ub = [r.randint(0, 5) for _ in range(3)]
        op = r.choice(("vadd", "vmov", "ld", "st", "usync", "vdup"))
        pred = self.predicate(open_loops, grid)
        order = r.random() < 0.2
        kind: str | None = "fp16"
        if op == "vadd":
            args = {"dst": ub[0], "a": ub[1], "b": ub[2], **sizes}
        elif op == "vmov":
            args = {"dst": ub[0], "a": ub[1], **sizes}
        elif op == "vdup":
            args = {"dst": ub[0], "imm": 5, **sizes}
        elif op == "ld":
            args = {"dst": ub[0], "src": r.choice((6, 7)), **sizes}
        elif op == "st":
            args = {"dst": r.choice((6, 7)), "src": ub[1], **sizes}
        else:
            args, kind = {"unit": r.randint(1, 6)}, None
        self.insns.append(Insn(op, kind, args=args, wait=waits, set=sets, pred=pred, order=order))
