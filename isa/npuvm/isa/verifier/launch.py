"""The static verifier: what a decoded program must keep to on a chip, proven before it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from npuvm.isa.codec import decode_at
from npuvm.isa.errors import DecodeError
from npuvm.isa.image import ADDRESS_BITS, Entry, Image, Reloc
from npuvm.isa.model import Insn, Isa
from npuvm.isa.verifier.counts import CoreText, shortages
from npuvm.isa.verifier.entries import check_barriers, check_count, groups_of
from npuvm.isa.verifier.program import Barrier, Block, Grid, parse
from npuvm.isa.verifier.report import Abandon, CapacityLimits, Findings, VerifyReport
from npuvm.isa.verifier.static import Setting, StaticChecks, Tabled
from npuvm.isa.verifier.sync import run_domain
from npuvm.isa.verifier.tables import RegSize, Tables
from npuvm.isa.verifier.walk import Walk, counted_one_by_one, tile_count

__all__ = ["MAX_STEPS", "Verification", "verify"]

MAX_STEPS = 500_000
"""Steps that a proof may take."""


def verify(
    isa: Isa,
    image: Image,
    limits: CapacityLimits,
    *,
    argument_bytes: Sequence[int] | None = None,
    absolute: bool = False,
    collect: bool = False,
    max_steps: int = MAX_STEPS,
) -> VerifyReport:
    """Check an image against the rules of `RULES` on a chip with these limits.

    `argument_bytes` gives the size of each argument, which bounds what global-memory descriptors may reach. `absolute`
    allows global-memory descriptors without a relocation. Raises VerifyError at the first broken rule, naming rule, word
    and instruction and what is allowed; with `collect` all findings come back in the report. `max_steps` bounds the work,
    which does not depend on trip counts.
    """
    findings = Findings(isa, image.name, collect)
    check = Verification(isa, image, limits, findings, max_steps)
    with contextlib.suppress(Abandon):
        check.statics(argument_bytes, absolute)
        if not findings.found:
            check.synchronisation()
    return check.report()


@dataclass(frozen=True, slots=True)
class _CoreRun:
    """One core of the launch: its entry, its group, its program."""

    entry: Entry
    group: int
    program: tuple[Tabled, ...]


class Verification:
    """The verification of one image in two parts: what holds wherever loops are, then order and balance.

    After the first part `insns` are the instructions by word with their lengths, `programs` those of cores by first word,
    `groups` the group of each core, `shared` the semaphores that cores share.
    """

    def __init__(self, isa: Isa, image: Image, limits: CapacityLimits, findings: Findings, max_steps: int) -> None:
        self._isa = isa
        self._image = image
        self._entries = tuple(image.entries)
        self._limits = limits
        self._findings = findings
        self._max_steps = max_steps
        self.insns: dict[int, tuple[Insn, int]] = {}
        self.programs: dict[int, tuple[Tabled, ...]] = {}
        self.groups: list[int] = []
        self.shared: frozenset[int] = frozenset()
        self._cores: list[_CoreRun] = []
        self._tiles: dict[tuple[int, int], int] = {}
        self._steps = 0

    def report(self) -> VerifyReport:
        """What was found so far."""
        found = tuple(self._findings.found.values())
        return VerifyReport(self._image.name, len(self.insns), self._steps, found)

    def statics(self, argument_bytes: Sequence[int] | None, absolute: bool) -> None:
        """Check all rules but those of order and balance."""
        if self._image.isa_hash != self._isa.hash:
            made, this = self._image.isa_hash[:16], self._isa.hash[:16]
            self._findings.fatal("hash", f"the image was made for instruction set {made}...; allowed: {this}...")
        self._decode()
        self._check_entries()
        relocs = self._relocations(argument_bytes)
        parsed = {pc: parse(self._isa, self.insns, pc, self._findings) for pc in self._starts()}
        self.shared = self._shared_semaphores()
        for pc, steps in parsed.items():
            types = tuple(dict.fromkeys(entry.core_type for entry in self._entries if entry.pc == pc))
            setting = Setting(
                self._isa, self._limits, types, relocs, argument_bytes, absolute, self.shared, self._findings
            )
            self.programs[pc] = StaticChecks(setting).run(steps)
        self._cores = [
            _CoreRun(entry, group, self.programs[entry.pc])
            for entry, group in zip(self._entries, self.groups, strict=True)
        ]
        for core in self._cores:
            self._ranges(core)
        barriers = {
            pc: [each.step for each in program if isinstance(each.step, Barrier)]
            for pc, program in self.programs.items()
        }
        check_barriers(self.groups, [barriers[entry.pc] for entry in self._entries], self._findings)

    # The image.

    def _decode(self) -> None:
        words = self._image.words.tolist()
        index = 0
        while index < len(words):
            try:
                insn, length = decode_at(self._isa, words, index)
            except DecodeError as exc:
                self._findings.fatal("decode", f"{exc.message} ({exc.word_class})", index)
            self.insns[index] = insn, length
            index += length

    def _starts(self) -> list[int]:
        return list(dict.fromkeys(entry.pc for entry in self._entries))

    def _check_entries(self) -> None:
        counts: dict[str, int] = {}
        types = [entry.core_type for entry in self._entries]
        for number, entry in enumerate(self._entries):
            check_count(types, number, counts, self._limits, self._findings)
            if entry.pc not in self.insns:
                self._findings.fatal("entry", f"entry {number} starts inside or outside an instruction", entry.pc)
        if not self._entries:
            self._findings.fatal("entry", "the image has no entry; allowed: one or more")
        self.groups = groups_of(types, self._limits, self._findings)

    def _relocations(self, argument_bytes: Sequence[int] | None) -> Mapping[int, Reloc]:
        if argument_bytes is not None and len(argument_bytes) != self._image.n_args:
            message = f"{len(argument_bytes)} argument sizes given, the image takes {self._image.n_args}"
            self._findings.fatal("relocation", message)
        field = self._isa.instruction("desc").operand("base").bits
        assert (field.low, field.width) == (0, ADDRESS_BITS)
        places = {pc + field.word for pc, (insn, _) in self.insns.items() if insn.op == "desc"}
        found: dict[int, Reloc] = {}
        for reloc in self._image.relocs:
            if reloc.word not in places:
                self._findings.add("relocation", "no base of a descriptor; relocations patch only those", reloc.word)
            if reloc.word in found:
                self._findings.add("relocation", "patched twice; a base has one relocation", reloc.word)
            if not 0 <= reloc.arg < self._image.n_args:
                message = f"names argument {reloc.arg}; allowed: 0 to {self._image.n_args - 1}"
                self._findings.fatal("relocation", message, reloc.word)
            found[reloc.word] = reloc
        return found

    def _shared_semaphores(self) -> frozenset[int]:
        """Semaphores of group and launch scope that some program of the launch defines."""
        numbers = {
            insn.args[name]
            for insn, _ in self.insns.values()
            for name in {"ring": ("ready", "free"), "sem": ("sem",)}.get(insn.op, ())
        }
        return frozenset(n for n in numbers if self._isa.semaphore_scope(n) != "core")

    # Cores.

    def _ranges(self, core: _CoreRun) -> None:
        for node, total in self._grids(core.entry.pc):
            given = len(core.entry.ranges)
            if node.phase >= given:
                message = f"phase {node.phase} has no range in an entry; the entry gives {given}"
                self._findings.fatal("range", message, node.pc, node.insn)
            start, stop = core.entry.ranges[node.phase]
            if not 0 <= start <= stop <= total:
                message = f"the tiles {start} to {stop} of a core are not within the grid; allowed: 0 to {total}"
                self._findings.fatal("range", message, node.pc, node.insn)

    def _grids(self, start: int) -> Iterator[tuple[Grid, int]]:
        """Grids of a program with the number of their tiles, which is counted once."""
        for each in self.programs[start]:
            for node in each.step.nodes if isinstance(each.step, Block) else ():
                if isinstance(node, Grid):
                    if (start, node.pc) not in self._tiles:
                        self._tiles[start, node.pc] = self._count(node, each.tables)
                    yield node, self._tiles[start, node.pc]

    def _count(self, node: Grid, tables: Tables) -> int:
        sizes = [tables.sizes[index] for index in node.trips]
        if any(isinstance(size, RegSize) for size in sizes):
            message = "a trip count of a grid is in a register; allowed: constants and counters of outer loops"
            self._findings.fatal("range", message, node.pc, node.insn)
        counted = counted_one_by_one(tables, sizes)
        if counted > self._max_steps:
            message = f"trip counts follow {counted} counters of outer loops; allowed: {self._max_steps}"
            self._findings.fatal("effort", message, node.pc, node.insn)
        return tile_count(tables, sizes, {})

    def across(self) -> bool:
        """Whether cores of several groups signal each other."""
        return any(self._isa.semaphore_scope(number) == "launch" for number in self.shared)

    def synchronisation(self) -> None:
        """Run every group that is different, or the launch when cores of several groups signal each other."""
        cores, shared, across = self._cores, self.shared, self.across()
        domains: dict[int, list[_CoreRun]] = {}
        for number, core in enumerate(cores):
            domains.setdefault(0 if across else core.group if shared else number, []).append(core)
        done: set[tuple[object, ...]] = set()
        tried = {start: Walk.unknowns(program) for start, program in self.programs.items()}
        for domain in domains.values():
            unknowns = {unknown for start in {core.entry.pc for core in domain} for unknown in tried[start]}
            for unknown in sorted(unknowns):
                walks = [Walk(self._isa, core.program, core.entry.ranges, unknown) for core in domain]
                self._effort(walks)
                key = (unknown, *((core.entry.pc, walk.signature()) for core, walk in zip(domain, walks, strict=True)))
                if key not in done:
                    done.add(key)
                    items = [walk.items() for walk in walks]
                    groups = [core.group for core in domain]
                    self._steps += run_domain(
                        self._isa, items, groups, not shared, self._max_steps - self._steps, self._findings
                    )
        if shared:
            self._shortages(cores)

    def _shortages(self, cores: Sequence[_CoreRun]) -> None:
        texts = [CoreText(core.group, core.program, core.entry.ranges) for core in cores]
        for short in shortages(self._isa, texts):
            message = (
                f"m{short.number} is waited for {short.waits} times over all iterations and signalled "
                f"{short.signals} times at most; allowed: as often"
            )
            self._findings.fatal("deadlock", message, short.waiter.pc, short.waiter.insn)

    def _effort(self, walks: Sequence[Walk]) -> None:
        """The tiles of a grid are listed for every core before they are walked, so steps alone would not bound them."""
        allowed = self._max_steps // len(self._entries)
        for walk in walks:
            grid = walk.crowded_grid(allowed)
            if grid is not None:
                message = f"trip counts inside turn at so many tiles that more than {allowed} counters would be visited"
                self._findings.fatal("effort", f"{message}; allowed: fewer such trip counts", grid.pc, grid.insn)
