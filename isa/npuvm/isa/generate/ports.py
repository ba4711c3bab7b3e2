"""The ports of the generated decoder. Names and widths of all but the operand outputs are the same for every set."""

from __future__ import annotations

from dataclasses import dataclass

from npuvm.isa.errors import IsaError
from npuvm.isa.model import Instruction, Isa

__all__ = ["SIZES", "TILES", "Port", "decoder_ports", "enabled", "unit_sizes"]

WORDS = 8
TILES = 4
SIZES = 3

_HEAD_WIDTHS = {
    "opcode": 8,
    "length": 4,
    "dtype": 4,
    "wait0": 6,
    "wait1": 6,
    "set0": 6,
    "set1": 6,
    "pred": 3,
    "mask": 8,
    "order": 1,
}
_UNIT_BITS = 3
_TILE_BITS = 8
_SIZE_BITS = 6


@dataclass(frozen=True, slots=True)
class Port:
    """A port: `direction` is input or output, `width` in bits.

    `signed` says that some instruction has a signed operand of this name; its value is then extended with its sign to the
    port's width, while an unsigned operand of the same name is extended with zeros.
    """

    name: str
    width: int
    direction: str
    signed: bool = False


def enabled(isa: Isa) -> tuple[Instruction, ...]:
    """The instructions whose feature is on, by opcode."""
    return tuple(i for _, i in sorted(isa.by_opcode.items()) if isa.features[i.feature])


def unit_sizes(instruction: Instruction) -> tuple[str, ...]:
    """Names of the operands that outputs size0 to size2 give: those of instructions that a unit executes."""
    return () if instruction.unit == "seq" else tuple(size.name for size in instruction.sizes)


def decoder_ports(isa: Isa) -> tuple[Port, ...]:
    """All ports in order; IsaError names what the decoder has no room for, or says that there is nothing to decode.

    Room: 4 tile operands, 3 size operands on a unit, 8-bit descriptors, 6-bit sizes, 3-bit units, a length of 4 bits, and
    the widths of the head's other fields in instruction set 1.0.
    """
    _check_room(isa)
    head = _HEAD_WIDTHS
    outputs = [
        ("word_class", 3),
        ("length", head["length"]),
        ("opcode", head["opcode"]),
        ("unit", _UNIT_BITS),
        ("dtype_valid", 1),
        ("dtype2_valid", 1),
        ("dtype", head["dtype"]),
        ("dtype2", head["dtype"]),
        *((name, head[name]) for name in ("wait0", "wait1", "set0", "set1", "pred", "mask", "order")),
        *((f"tile{slot}", _TILE_BITS) for slot in range(TILES)),
        ("tile_valid", TILES),
        *((f"size{slot}", _SIZE_BITS) for slot in range(SIZES)),
        ("size_valid", SIZES),
    ]
    return (
        Port("words", 64 * WORDS, "input"),
        Port("avail", 4, "input"),
        *(Port(name, width, "output") for name, width in outputs),
        *_operand_ports(isa),
    )


def _operand_ports(isa: Isa) -> list[Port]:
    """One output per operand name, in the order of their first use."""
    widths: dict[str, int] = {}
    signed: set[str] = set()
    for instruction in enabled(isa):
        for operand in instruction.operands:
            widths[operand.name] = max(operand.bits.width, widths.get(operand.name, 0))
            if operand.kind.repr == "sint":
                signed.add(operand.name)
    return [Port(f"op_{name}", width, "output", name in signed) for name, width in widths.items()]


def _check_room(isa: Isa) -> None:
    if not enabled(isa):
        raise IsaError("every instruction belongs to a feature that is off; there is nothing to decode")
    for name, width in _HEAD_WIDTHS.items():
        if isa.head[name].width > width:
            raise IsaError(f"head.{name} has {isa.head[name].width} bits; the generated decoder has {width} for it")
    for instruction in enabled(isa):
        name = instruction.name
        sizes = [instruction.operand(size) for size in unit_sizes(instruction)]
        for what, operands, slots, width in (
            ("tile", instruction.regions, TILES, _TILE_BITS),
            ("size", sizes, SIZES, _SIZE_BITS),
        ):
            if len(operands) > slots:
                names = ", ".join(operand.name for operand in operands)
                raise IsaError(f"{len(operands)} {what} operands ({names}); the generated decoder gives {slots}", name)
            for operand in operands:
                if operand.bits.width > width:
                    message = f"{operand.name} has {operand.bits.width} bits; a {what} of the decoder has {width}"
                    raise IsaError(message, name)
        if instruction.dtype2_bits is not None and instruction.dtype2_bits.width > _HEAD_WIDTHS["dtype"]:
            raise IsaError(f"dtype2 has more than {_HEAD_WIDTHS['dtype']} bits", name)
        if instruction.unit == "any":
            _check_named_unit(instruction)


def _check_named_unit(instruction: Instruction) -> None:
    named = [operand for operand in instruction.operands if operand.name == "unit"]
    if not named:
        raise IsaError("an instruction for any unit needs an operand `unit` that names it", instruction.name)
    if named[0].bits.width > _UNIT_BITS:
        message = f"unit has {named[0].bits.width} bits; a unit of the decoder has {_UNIT_BITS}"
        raise IsaError(message, instruction.name)
