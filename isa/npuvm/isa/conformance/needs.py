"""What a program case takes for granted of an instruction set, so that one without it still gets the other cases.

The text is read here by a few patterns and not by the assembler, whose faults must show as failures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from npuvm.isa.conformance.oracle_numbers import STORAGE
from npuvm.isa.model import Instruction, Isa, OperandSpec

__all__ = ["lacking", "type_pairs"]

_MNEMONIC = re.compile(r"(?:\w+:\s*)?(?P<name>\w+)(?:\.(?P<dtype>\w+)(?:->(?P<dtype2>\w+))?)?(?=\s|$)")
_OPERAND = re.compile(r"(\w+)=(\S+)")
_PREDICATE = re.compile(r"\bif (\w+)\(([^)]*)\)")
_NUMBER = re.compile(r"[-+]?(0x[0-9a-f]+|\d+)")


def type_pairs(isa: Isa, name: str) -> tuple[tuple[str, str | None], ...]:
    """The pairs of types of an instruction that the oracle knows; none when there is no such instruction or it is off."""
    instruction = isa.instructions.get(name)
    if instruction is None or not isa.features[instruction.feature]:
        return ()
    return tuple(pair for pair in instruction.dtypes if {each for each in pair if each} <= STORAGE.keys())


def lacking(isa: Isa, text: str) -> str | None:
    """The first thing that a program's text uses and an instruction set does not have, in words; None when it has all.

    That is an instruction, one of its types, operands or an operand's value, a predicate, or an entry of a table that is
    smaller than the program needs.
    """
    for line in text.splitlines():
        code = line.partition("#")[0].strip()
        found = _MNEMONIC.match(code)
        if found is not None:
            reason = next(_of_line(isa, found, code), None)
            if reason is not None:
                return reason
    return None


def _of_line(isa: Isa, found: re.Match[str], code: str) -> Iterator[str]:
    name, pair = found["name"], (found["dtype"], found["dtype2"])
    instruction = isa.instructions.get(name)
    if instruction is None:
        yield f"there is no {name}"
        return
    if not isa.features[instruction.feature]:
        yield f"{name} is off: feature {instruction.feature}"
    if pair != (None, None) and pair not in instruction.dtypes:
        yield f"{name} does not take {'->'.join(each for each in pair if each)}"
    operands, _, attributes = code[found.end() :].partition("|")
    for operand, value in _OPERAND.findall(operands):
        yield from _of_operand(instruction, operand, value)
    yield from _of_attributes(isa, attributes)


def _of_operand(instruction: Instruction, name: str, value: str) -> Iterator[str]:
    spec = next((each for each in instruction.operands if each.name == name), None)
    if spec is None:
        yield f"{instruction.name} has no operand {name}"
    elif not _takes(spec, value):
        yield f"{instruction.name} does not take {name}={value}"


def _takes(spec: OperandSpec, value: str) -> bool:
    """Whether an operand can have a value; one that is no number (a float, a relocation) is left to the assembler."""
    if spec.kind.repr == "enum":
        return value in spec.values
    digits = value.removeprefix(spec.kind.prefix)
    return _NUMBER.fullmatch(digits) is None or spec.low <= int(digits, 0) <= spec.high


def _of_attributes(isa: Isa, attributes: str) -> Iterator[str]:
    loops = ""
    for kind, mask in _PREDICATE.findall(attributes):
        loops += mask
        if kind not in isa.predicates:
            yield f"there is no predicate {kind}"
    numbers = {"loops": re.findall(r"\bl(\d+)", loops), "semaphores": re.findall(r"\bm(\d+)", attributes)}
    for table, used in numbers.items():
        highest = max(map(int, used), default=-1)
        if highest >= isa.limits[table]:
            yield f"it has {isa.limits[table]} {table}, number {highest} is used"
