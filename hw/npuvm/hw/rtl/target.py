"""The generated decoder as a target of the conformance suite: what it decodes, from its outputs alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.decoder_bench import DecoderBench, DecoderOutputs
from npuvm.hw.rtl.simulators import find_simulator
from npuvm.hw.rtl.vectors import vectors_of
from npuvm.isa.conformance.target import Decoded, Level, Outcome, ProgramCase
from npuvm.isa.model import Insn, Instruction, Isa, OperandSpec, Pred, WordClass

__all__ = ["SIMULATOR_VARIABLE", "RtlTarget", "decoded", "rtl_target"]

SIMULATOR_VARIABLE = "NPUVM_RTL_SIMULATOR"
"""Environment variable with the simulator that `rtl_target` uses; icarus when it is not set."""

_CLASSES = tuple(WordClass)


class RtlTarget:
    """The decoder of any instruction set in one simulator; each instruction set is built once, when it is first asked for.

    `sources` are another implementation of the module `npu_decoder`, with the ports that the generated one has.
    """

    name = "rtl"

    def __init__(self, simulator: str = "icarus", sources: Sequence[Path] | None = None) -> None:
        self._simulator = find_simulator(simulator)
        self._sources = sources
        self._benches: dict[str, DecoderBench] = {}

    def levels(self) -> frozenset[Level]:
        """Those that decode: the decoder executes nothing."""
        return frozenset({Level.GOLDEN, Level.ENCODING, Level.CLASSES})

    def unavailable(self) -> str | None:
        """What is missing to simulate, and how to get it."""
        return self._simulator.missing

    def decode(self, isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
        """What the decoder makes of word 0 of each program; RtlError when an output is unknown or the simulation fails."""
        if isa.hash not in self._benches:
            self._benches[isa.hash] = DecoderBench(isa, self._simulator, sources=self._sources)
        return decoded(isa, self._benches[isa.hash].decode(vectors_of(programs)))

    def run(self, isa: Isa, case: ProgramCase) -> Outcome:
        """Not one of its levels: RtlError."""
        raise RtlError(f"the decoder runs no programs, and {case.id} is one")


def rtl_target() -> RtlTarget:
    """The target `rtl`, in the simulator that the environment names (`SIMULATOR_VARIABLE`), or in Icarus."""
    return RtlTarget(os.environ.get(SIMULATOR_VARIABLE, "icarus"))


def decoded(isa: Isa, outputs: DecoderOutputs) -> list[Decoded]:
    """The decoder's outputs as instructions, one per vector.

    Nothing is read off the words themselves. What the instruction set has no name for stays visible under its number
    ("opcode 0x7f"), and an output that contradicts another (`tile1` and the operand it stands for) becomes an operand of its
    own, so that a wrong decoder gives a wrong answer and not an error.
    """
    return list(_Reader(isa, outputs).rows())


class _Reader:
    def __init__(self, isa: Isa, outputs: DecoderOutputs) -> None:
        self._isa = isa
        self._raw: dict[str, list[int]] = {name: column.tolist() for name, column in outputs.columns.items()}
        self._signed: dict[str, list[int]] = {
            operand.name: outputs.signed(f"op_{operand.name}").tolist()
            for spec in isa.instructions.values()
            for operand in spec.operands
            if operand.kind.repr == "sint" and f"op_{operand.name}" in outputs.columns
        }
        self._units = {code: name for name, code in isa.units.items()}
        self._dtypes = {dtype.code: name for name, dtype in isa.dtypes.items()}
        self._predicates = {code: name for name, code in isa.predicates.items()}

    def rows(self) -> Iterator[Decoded]:
        for row, code in enumerate(self._raw["word_class"]):
            word_class = _CLASSES[code] if code < len(_CLASSES) else None
            if word_class is None:
                raise RtlError(f"the decoder gave class {code} for vector {row}; there are {len(_CLASSES)}")
            yield self._legal(row) if word_class is WordClass.LEGAL else Decoded(word_class)

    def _legal(self, row: int) -> Decoded:
        raw = self._raw
        opcode, unit = raw["opcode"][row], raw["unit"][row]
        spec = self._isa.by_opcode.get(opcode)
        insn = Insn(
            f"opcode {opcode:#04x}" if spec is None else spec.name,
            self._dtype(row, "dtype"),
            self._dtype(row, "dtype2"),
            {} if spec is None else self._operands(spec, row),
            wait=self._semaphores(row, "wait"),
            set=self._semaphores(row, "set"),
            pred=self._predicate(row),
            order=bool(raw["order"][row]),
        )
        return Decoded(WordClass.LEGAL, raw["length"][row], insn, self._units.get(unit, f"unit {unit}"))

    def _dtype(self, row: int, port: str) -> str | None:
        if not self._raw[f"{port}_valid"][row]:
            return None
        code = self._raw[port][row]
        return self._dtypes.get(code, f"type {code}")

    def _semaphores(self, row: int, kind: str) -> tuple[int, ...]:
        fields = (self._raw[f"{kind}0"][row], self._raw[f"{kind}1"][row])
        return tuple(number - 1 for number in fields if number)

    def _predicate(self, row: int) -> Pred | None:
        code, mask = self._raw["pred"][row], self._raw["mask"][row]
        kind = self._predicates.get(code, f"predicate {code}")
        return None if kind == "always" and not mask else Pred(kind, mask)

    def _operands(self, spec: Instruction, row: int) -> dict[str, int]:
        args = {operand.name: self._operand(operand, row) for operand in spec.operands}
        sizes = () if spec.unit == "seq" else spec.sizes
        return (
            args
            | self._contradictions("tile", spec.regions, args, row)
            | self._contradictions("size", sizes, args, row)
        )

    def _operand(self, operand: OperandSpec, row: int) -> int:
        if operand.kind.repr == "sint":
            return self._signed[operand.name][row]
        return self._raw[f"op_{operand.name}"][row]

    def _contradictions(
        self, port: str, operands: Sequence[OperandSpec], args: dict[str, int], row: int
    ) -> dict[str, int]:
        found: dict[str, int] = {}
        valid = self._raw[f"{port}_valid"][row]
        if valid != (1 << len(operands)) - 1:
            found[f"{port}_valid"] = valid
        for index, operand in enumerate(operands):
            value = self._raw[f"{port}{index}"][row]
            if value != args[operand.name]:
                found[f"{port}{index}"] = value
        return found
