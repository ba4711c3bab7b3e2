"""A second instruction decoder in SystemVerilog, written apart from the generator, for yosys to hold the first against.

It reads nothing but the resolved instruction set (the public JSON) and shares no code with `npuvm.isa.generate`. The
style differs on purpose: each instruction is a match under a mask, each output a chain of conditions that the first
match decides, reserved bits are one mask over all words; the generator writes one-hot AND-OR assigns, which is right
only if no two instructions match at once. What the reference costs in gates does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from npuvm.isa.errors import IsaError

__all__ = ["REFERENCE_MODULE", "output_widths", "reference_sv"]

REFERENCE_MODULE = "npu_decoder_reference"

LEGAL, RESERVED, ILLEGAL, UNALLOCATED, OFF = range(5)

WORD_BITS = 64
MAX_WORDS = 8
AVAIL_BITS = 4
TILES = 4
SIZES = 3

_FIXED: dict[str, int] = {
    "word_class": 3,
    "length": 4,
    "opcode": 8,
    "unit": 3,
    "dtype_valid": 1,
    "dtype2_valid": 1,
    "dtype": 4,
    "dtype2": 4,
    "wait0": 6,
    "wait1": 6,
    "set0": 6,
    "set1": 6,
    "pred": 3,
    "mask": 8,
    "order": 1,
    **{f"tile{i}": 8 for i in range(TILES)},
    "tile_valid": TILES,
    **{f"size{i}": 6 for i in range(SIZES)},
    "size_valid": SIZES,
}
_SYNC = ("wait0", "wait1", "set0", "set1", "pred", "mask", "order")

Resolved = Mapping[str, Any]
Entry = Mapping[str, Any]


def output_widths(resolved: Resolved) -> dict[str, int]:
    """Name -> bits of every output of the decoder of a resolved instruction set, in order."""
    widths = dict(_FIXED)
    for entry in resolved["instructions"]:
        if _is_on(resolved, entry):
            for operand in entry["operands"]:
                name = f"op_{operand['name']}"
                widths[name] = max(widths.get(name, 0), operand["bits"][2])
    return widths


def reference_sv(resolved: Resolved, module: str = REFERENCE_MODULE) -> str:
    """SystemVerilog of the reference decoder of a resolved instruction set; IsaError when a field outgrows its output."""
    widths = output_widths(resolved)
    ports = [
        f"  input  logic [{WORD_BITS * MAX_WORDS - 1}:0] words",
        f"  input  logic [{AVAIL_BITS - 1}:0] avail",
        *(f"  output logic [{width - 1}:0] {name}" for name, width in widths.items()),
    ]
    chains: dict[str, list[tuple[str, str]]] = {name: [] for name in widths}
    stanzas: list[str] = []
    for entry in resolved["instructions"]:
        name = entry["name"]
        stanzas.append(_match(resolved, entry))
        for output, value in _fields(resolved, entry, widths):
            chains[output].append((f"is_{name}", value))
    ends = {name: _number(UNALLOCATED if name == "word_class" else 0, width) for name, width in widths.items()}
    assigns = [f"  assign {name} =\n    " + "\n    ".join([*_arms(chains[name]), ends[name] + ";"]) for name in widths]
    return f"""// Reference decoder of {resolved["isa"]} {resolved["version"]}, for equivalence checks only.
module {module} (
{("," + chr(10)).join(ports)}
);
  wire sync_illegal = {_sync_illegal(resolved)};
{chr(10).join(stanzas)}
{chr(10).join(assigns)}
endmodule
"""


def _arms(chain: Iterable[tuple[str, str]]) -> Iterator[str]:
    """(condition, value) in order -> arms of a conditional; neighbours with one value share an arm."""
    for value, group in itertools.groupby(chain, key=lambda arm: arm[1]):
        yield f"{_any(condition for condition, _ in group)} ? {value} :"


def _is_on(resolved: Resolved, entry: Entry) -> bool:
    return bool(resolved["features"][entry["feature"]]["default"])


def _field(bits: Iterable[int]) -> str:
    """[word, low, width] -> a part-select of the input."""
    word, low, width = bits
    start = WORD_BITS * word + low
    return f"words[{start + width - 1}:{start}]"


def _head(resolved: Resolved, name: str) -> str:
    return _field(resolved["head"][name])


def _number(value: int, width: int) -> str:
    return f"{width}'h{value & (1 << width) - 1:x}"


def _any(terms: Iterable[str]) -> str:
    return " || ".join(terms) or "1'b0"


def _is_one_of(expression: str, codes: Iterable[int], width: int) -> str:
    return "(" + _any(f"{expression} == {_number(code, width)}" for code in codes) + ")"


def _sync_illegal(resolved: Resolved) -> str:
    """What no instruction may have in the head.

    A second semaphore without a first, a predicate that does not exist, a mask without a predicate; a semaphore or a
    loop past the last one, where the field has room for such.
    """
    head = resolved["head"]
    pred, mask = _head(resolved, "pred"), _head(resolved, "mask")
    always = resolved["predicates"]["always"]
    terms = [f"({_head(resolved, f'{kind}0')} == 0 && {_head(resolved, f'{kind}1')} != 0)" for kind in ("wait", "set")]
    terms.append("!" + _is_one_of(pred, resolved["predicates"].values(), head["pred"][2]))
    terms.append(f"({pred} == {_number(always, head['pred'][2])} && {mask} != 0)")
    for name in ("wait0", "wait1", "set0", "set1"):
        terms += _above(head[name], resolved["limits"]["semaphores"])
    terms += _above(head["mask"], (1 << resolved["limits"]["loops"]) - 1)
    return _any(terms)


def _above(bits: list[int], most: int) -> list[str]:
    """The condition that a field is above `most`, if it can be."""
    return [f"({_field(bits)} > {_number(most, bits[2])})"] if most < (1 << bits[2]) - 1 else []


def _match(resolved: Resolved, entry: Entry) -> str:
    """Whether the words are this instruction: opcode and length match under a mask, and all of it is there."""
    opcode, length = resolved["head"]["opcode"], resolved["head"]["length"]
    mask = _in_place(opcode) | _in_place(length)
    match = entry["opcode"] << opcode[1] | entry["words"] << length[1]
    return (
        f"  wire is_{entry['name']} = (words[{WORD_BITS - 1}:0] & {_number(mask, WORD_BITS)})"
        f" == {_number(match, WORD_BITS)} && avail > {_number(entry['words'], AVAIL_BITS)};"
    )


def _word_class(resolved: Resolved, entry: Entry) -> str:
    """The class of words that match the instruction."""
    if not _is_on(resolved, entry):
        return f"3'd{OFF}"
    reserved = f"(words & {_number(_reserved_mask(resolved, entry), WORD_BITS * MAX_WORDS)}) != 0"
    illegal = _any(["sync_illegal", *_illegal_operands(resolved, entry)])
    return f"(({reserved}) ? 3'd{RESERVED} : ({illegal}) ? 3'd{ILLEGAL} : 3'd{LEGAL})"


def _in_place(bits: Iterable[int]) -> int:
    """The mask of a head field."""
    _, low, width = bits
    return sum(1 << bit for bit in range(low, low + width))


def _reserved_mask(resolved: Resolved, entry: Entry) -> int:
    """Bits of the instruction's words, head first, that no field covers."""
    covered = 0
    fields: list[list[int]] = [bits for name, bits in resolved["head"].items() if name != "dtype" or entry["dtyped"]]
    fields += [operand["bits"] for operand in entry["operands"]]
    if entry["dtype2_bits"]:
        fields.append(entry["dtype2_bits"])
    for word, low, width in fields:
        covered |= (1 << width) - 1 << (WORD_BITS * word + low)
    entry_words: int = entry["words"]
    return ~covered & (1 << WORD_BITS * (entry_words + 1)) - 1


def _illegal_operands(resolved: Resolved, entry: Entry) -> Iterator[str]:
    """Conditions under which an operand or the types are outside what the instruction allows."""
    if entry["dtypes"]:
        yield f"!({_any(_pair(resolved, entry, first, second) for first, second in entry['dtypes'])})"
    for operand in entry["operands"]:
        width = operand["bits"][2]
        if operand["values"]:
            yield "!" + _is_one_of(_field(operand["bits"]), operand["values"].values(), width)
        yield from _out_of_range(resolved, operand)


def _out_of_range(resolved: Resolved, operand: Entry) -> Iterator[str]:
    field, width = _field(operand["bits"]), operand["bits"][2]
    low, high = 0, (1 << width) - 1
    if _is_signed(resolved, operand):
        # Offset by half the span, signed order becomes unsigned order.
        low, high = -(1 << width - 1), (1 << width - 1) - 1
        field = f"({field} ^ {_number(1 << width - 1, width)})"
    if operand["min"] > low:
        yield f"({field} < {_number(operand['min'] - low, width)})"
    if operand["max"] < high:
        yield f"({field} > {_number(operand['max'] - low, width)})"


def _is_signed(resolved: Resolved, operand: Entry) -> bool:
    return bool(resolved["operand_kinds"][operand["kind"]]["repr"] == "sint")


def _pair(resolved: Resolved, entry: Entry, first: str, second: str | None) -> str:
    width = resolved["head"]["dtype"][2]
    text = f"{_head(resolved, 'dtype')} == {_number(resolved['dtypes'][first]['code'], width)}"
    if second is None:
        return f"({text})"
    code = resolved["dtypes"][second]["code"]
    return f"({text} && {_field(entry['dtype2_bits'])} == {_number(code, entry['dtype2_bits'][2])})"


def _fields(resolved: Resolved, entry: Entry, widths: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(output, expression) of all that this instruction gives: only its class when it is off."""

    def plain(output: str, bits: list[int]) -> tuple[str, str]:
        if bits[2] > widths[output]:
            raise IsaError(f"a field of {bits[2]} bits does not fit output {output} of {widths[output]}", entry["name"])
        return output, _padded(_field(bits), bits[2], widths[output])

    yield "word_class", _word_class(resolved, entry)
    if not _is_on(resolved, entry):
        return
    yield "length", _number(entry["words"] + 1, widths["length"])
    yield plain("opcode", resolved["head"]["opcode"])
    named = next((o["bits"] for o in entry["operands"] if o["name"] == "unit"), None)
    if entry["unit"] != "any":
        yield "unit", _number(resolved["units"][entry["unit"]]["code"], widths["unit"])
    elif named is not None:
        yield plain("unit", named)
    if entry["dtypes"]:
        yield "dtype_valid", "1'b1"
        yield plain("dtype", resolved["head"]["dtype"])
        if entry["dtype2_bits"]:
            yield "dtype2_valid", "1'b1"
            yield plain("dtype2", entry["dtype2_bits"])
    for name in _SYNC:
        yield plain(name, resolved["head"][name])
    tiles = [o for o in entry["operands"] if o["role"] is not None]
    sizes = [o for o in entry["operands"] if o["kind"] == "size" and entry["unit"] != "seq"]
    for prefix, members, most in (("tile", tiles, TILES), ("size", sizes, SIZES)):
        if len(members) > most:
            raise IsaError(f"has {len(members)} {prefix} operands; the decoder gives {most}", entry["name"])
        yield f"{prefix}_valid", _number((1 << len(members)) - 1, most)
        for index, operand in enumerate(members):
            yield plain(f"{prefix}{index}", operand["bits"])
    for operand in entry["operands"]:
        yield f"op_{operand['name']}", _extended(resolved, operand, widths[f"op_{operand['name']}"])


def _extended(resolved: Resolved, operand: Entry, width: int) -> str:
    field, given = _field(operand["bits"]), operand["bits"][2]
    if width == given or not _is_signed(resolved, operand):
        return _padded(field, given, width)
    word, low, _ = operand["bits"]
    return f"{{{{{width - given}{{words[{WORD_BITS * word + low + given - 1}]}}}}, {field}}}"


def _padded(field: str, given: int, width: int) -> str:
    return field if given == width else f"{{{_number(0, width - given)}, {field}}}"
