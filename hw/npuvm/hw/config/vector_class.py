"""The cost of a vector instruction on a chip: its timing class, or what its primitives add up to."""

from __future__ import annotations

from fractions import Fraction

from npuvm.hw.config.model import VectorClass, VectorConfig
from npuvm.hw.errors import ConfigError, SimulationError
from npuvm.isa.model import Instruction, Isa
from npuvm.isa.semantics import primitives

__all__ = ["class_names", "class_of"]


def class_names(isa: Isa, instruction: Instruction) -> tuple[str, ...]:
    """The timing class of a vector instruction; without one, those of the primitives of its semantics, in their order.

    SimulationError when the instruction set gives a primitive no class.
    """
    if instruction.timing is not None:
        return (instruction.timing,)
    found = primitives(instruction.semantics or "", tuple(operand.name for operand in instruction.operands))
    for primitive in found:
        if primitive not in isa.primitive_timing:
            message = f"{instruction.name}: the instruction set gives no timing class to primitive {primitive!r}"
            raise SimulationError(f"{message} (primitive_timing)")
    return tuple(isa.primitive_timing[primitive] for primitive in found)


def class_of(vector: VectorConfig, isa: Isa, instruction: Instruction) -> VectorClass:
    """Cost of a vector instruction; of several classes the slopes add up, startup and latency are the largest.

    ConfigError when the chip does not price a class.
    """
    names = class_names(isa, instruction)
    unknown = [name for name in names if name not in vector.classes]
    if unknown:
        message = f"{instruction.name}: the chip prices no timing class {unknown[0]!r} (core.vector.classes)"
        raise ConfigError(f"{message}; it prices {', '.join(vector.classes)}")
    classes = [vector.classes[name] for name in names]
    if len(classes) == 1:
        return classes[0]
    return VectorClass(
        startup_cycles=max(each.startup_cycles for each in classes),
        cycles_per_repeat=sum((each.cycles_per_repeat for each in classes), Fraction(0)),
        row_cycles=sum((each.row_cycles for each in classes), Fraction(0)),
        latency_cycles=max(each.latency_cycles for each in classes),
    )
