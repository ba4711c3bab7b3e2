"""Which programs use which instructions: compiles the kernels of scenarios and counts, without running anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from npuvm.compiler import Pins
from npuvm.compiler.program.kinds import compile_kernel
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa, decode_program
from npuvm.isa.errors import NpuvmError
from npuvm.runtime.scenarios.kernels import kernel_of, parameter_names
from npuvm.runtime.scenarios.oracles import input_shapes
from npuvm.runtime.scenarios.run import operator_text, shape_text
from npuvm.runtime.scenarios.schema import KernelScenario

__all__ = ["InstructionUse", "count_uses", "scenario_programs"]


@dataclass(frozen=True)
class InstructionUse:
    """How often an instruction stands in the programs.

    `dtypes` are written "fp16" or "fp32->fp16", `programs` are labels of those that have it, `count` is over all of them.
    """

    name: str
    dtypes: tuple[str, ...]
    programs: tuple[str, ...]
    count: int


def scenario_programs(scenario: KernelScenario, chip: NpuConfig, isa: Isa) -> Iterator[tuple[str, Image]]:
    """Every program of a scenario, compiled for a chip: a label like "gemm: matmul fp16 m8 n8 k8, launch 1", and the image.

    CompileError names the case that the chip cannot run.
    """
    for case in scenario.cases:
        pins = scenario.pins.model_copy(update=case.pins.model_dump(exclude_unset=True)).model_dump(exclude_unset=True)
        for dtype in case.dtypes:
            for shape in case.shapes:
                label = f"{scenario.name}: {operator_text(case)} {dtype} {shape_text(shape)}"
                shapes = input_shapes(case, shape)
                made = kernel_of(case, dtype, len(shapes[0]))
                named = dict(zip(parameter_names(made), shapes, strict=True))
                try:
                    compiled = compile_kernel(made, named, chip, isa, Pins(**pins) if pins else None)
                except NpuvmError as error:
                    error.where = label if error.where is None else f"{label}: {error.where}"
                    raise
                for number, launch in enumerate(compiled.launches, 1):
                    yield f"{label}, launch {number}", launch.image


def count_uses(isa: Isa, programs: Sequence[tuple[str, Image]]) -> tuple[InstructionUse, ...]:
    """Uses of every instruction of the instruction set, also of those that no program has, by opcode."""
    counts = dict.fromkeys(isa.instructions, 0)
    dtypes: dict[str, dict[str, None]] = {name: {} for name in isa.instructions}
    users: dict[str, dict[str, None]] = {name: {} for name in isa.instructions}
    for label, image in programs:
        for _, insn in decode_program(isa, image.words):
            counts[insn.op] += 1
            users[insn.op][label] = None
            if insn.dtype is not None:
                dtypes[insn.op]["->".join(d for d in (insn.dtype, insn.dtype2) if d)] = None
    ordered = sorted(isa.instructions.values(), key=lambda instruction: instruction.opcode)
    return tuple(InstructionUse(i.name, tuple(dtypes[i.name]), tuple(users[i.name]), counts[i.name]) for i in ordered)
