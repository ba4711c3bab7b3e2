"""What must hold of npu 1.0 whatever its YAML says, written by hand and apart from it.

isa/conformance/invariants.yaml freezes where bits lie; here stand lengths, types, shapes, memories, traps, and what each
expression makes of a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npuvm.isa import Instruction, classify, load_isa
from npuvm.isa.model import WordClass
from npuvm.isa.resources import list_resources
from npuvm.isa.semantics import parse_semantics

ISA = load_isa()
ALL = list(ISA.instructions.values())

LENGTHS = {
    0: "nop halt barrier loop endloop endgrid sem lds sadd ssub smul scdiv smin slt usync",
    1: "grid szc szt szr dstr ring li st stadd mvl0a mvl0at mvl0b mvl0bt mvl0c mma mmac fix fixadd vmov vneg vabs vexp vlog "
    "vsqrt vrsqrt vrec vrelu vfloor vceil vrint vtrunc vnot visfin vcast vbrc vadd vsub vmul vdiv vmax vmin vpow vand vor "
    "vxor veq vne vlt vle vgt vge vsel vsuml vmaxl vminl vsumf vmaxf vminf vprodl vprodf "
    "vscanl vscanf vargmaxl vsortb vmerge",
    2: "sza desc ld vdup vadds vmuls vmaxs vmins vrsubs vdivs vrdivs vpows veqs vnes vlts vles vgts vges ldx stx stxadd viota",
    4: "dwin",
    6: "mvim2col mvim2colt",
}
COMPARISONS = "veq vne vlt vle vgt vge veqs vnes vlts vles vgts vges visfin"
FLOAT_ONLY = "vexp vlog vsqrt vrsqrt vrec vfloor vceil vrint vtrunc visfin vdiv vpow vdivs vrdivs vpows"
LOGICAL = "vnot vand vor vxor"
WIDE = (
    "vadd vsub vmul vmax vmin vneg vabs vrelu vsel vadds vmuls vmaxs vmins vrsubs vsuml vmaxl vminl vsumf vmaxf vminf"
)
OFF = "vsortb vmerge"

A = np.array([-2.5, -1.0, 0.0, 0.5, 1.5, 2.5, 4.0, 9.0])
B = np.array([2.0, -1.0, 3.0, 0.5, 4.0, -2.5, 2.0, 3.0])
C = np.array([True, False, True, False, True, True, False, False])
UNARY: dict[str, Callable[[Any], Any]] = {
    "vmov": lambda a: a,
    "vneg": lambda a: 0 - a,
    "vabs": lambda a: np.where(a < 0, 0 - a, a),
    "vexp": lambda a: 2.718281828459045**a,
    "vlog": lambda a: np.log2(a) * 0.6931471805599453,
    "vsqrt": lambda a: a**0.5,
    "vrsqrt": lambda a: a**-0.5,
    "vrec": lambda a: a**-1.0,
    "vrelu": lambda a: np.where(a > 0, a, 0),
    "vfloor": lambda a: a // 1,
    "vceil": lambda a: -(-a // 1),
    "vrint": lambda a: np.round(a),
    "vtrunc": lambda a: np.sign(a) * (np.abs(a) // 1),
    "visfin": lambda a: a - a == 0,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "max": lambda a, b: np.where(a > b, a, b),
    "min": lambda a, b: np.where(a < b, a, b),
    "pow": lambda a, b: a**b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def only(name: str) -> Instruction:
    return ISA.instruction(name)


def evaluated(name: str, **values: Any) -> Any:
    """What an instruction's expression makes of these operands."""
    spec = only(name)
    assert spec.semantics is not None
    semantics = parse_semantics(spec.semantics, [operand.name for operand in spec.operands])
    with np.errstate(all="ignore"):
        return semantics.evaluate(*(values[operand] for operand in semantics.names))


def test_lengths() -> None:
    expected = {name: words for words, names in LENGTHS.items() for name in names.split()}
    assert {spec.name: spec.words for spec in ALL} == expected


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_every_bit_is_a_field_or_reserved(spec: Instruction) -> None:
    """Opcode, length, waits, sets, predicate, mask and order belong to every head; the type's bits to typed ones only."""
    type_bits = 0xF << 11
    taken = [(1 << 51) - 1 & ~type_bits] + [0] * spec.words
    taken[0] |= type_bits if spec.dtypes else 0
    for bits in [operand.bits for operand in spec.operands] + ([spec.dtype2_bits] if spec.dtype2_bits else []):
        assert bits.word <= spec.words and bits.low + bits.width <= 64
        assert not taken[bits.word] & bits.mask, "two fields share a bit"
        taken[bits.word] |= bits.mask
    assert [reserved ^ (1 << 64) - 1 for reserved in spec.reserved] == taken


@pytest.mark.parametrize("follow", range(8))
def test_memory_that_was_never_written_is_no_instruction(follow: int) -> None:
    for word in (0, (1 << 64) - 1):
        assert classify(ISA, [word] * (follow + 1)) is WordClass.UNALLOCATED


def test_types_of_instructions() -> None:
    floats, wide = {"fp32", "fp16", "bf16"}, {"fp32", "fp16", "bf16", "int32"}
    for name in FLOAT_ONLY.split():
        assert {pair[0] for pair in only(name).dtypes} == floats, name
    for name in LOGICAL.split():
        assert {pair[0] for pair in only(name).dtypes} == {"bool", "int32"}, name
    for name in WIDE.split():
        assert {pair[0] for pair in only(name).dtypes} == wide, name
    for name in ["ld", "st"]:
        assert {pair[0] for pair in only(name).dtypes} == set(ISA.dtypes), name
    for name in ["mma", "mmac"]:
        assert {pair[0] for pair in only(name).dtypes} == floats | {"int8", "fp8_e4m3", "fp8_e5m2"}, name
    assert only("lds").dtypes == (("int32", None),)
    two = {spec.name for spec in ALL if any(second for _, second in spec.dtypes)}
    assert two == {"vcast", "fix", "fixadd"}
    assert all(first != second for first, second in only("vcast").dtypes)
    assert all(len(set(spec.dtypes)) == len(spec.dtypes) for spec in ALL)


def test_types_and_shapes_of_operands() -> None:
    def seen(name: str) -> dict[str, tuple[tuple[str | int, ...], str]]:
        return {region.name: (region.shape, region.dtype) for region in only(name).regions}

    tile: tuple[str | int, ...] = ("rows", "cols")
    for name in COMPARISONS.split():
        assert seen(name)["dst"] == (tile, "bool"), name
        assert seen(name)["a"] == (tile, "dtype"), name
    for name in ["vsuml", "vmaxl", "vminl"]:
        assert seen(name) == {"dst": (("rows", 1), "dtype"), "a": (tile, "dtype")}
    for name in ["vsumf", "vmaxf", "vminf"]:
        assert seen(name) == {"dst": ((1, "cols"), "dtype"), "a": (tile, "dtype")}
    for name, start in {"vscanl": ("rows", 1), "vscanf": (1, "cols")}.items():
        assert seen(name) == {"dst": (tile, "dtype"), "a": (tile, "dtype"), "b": (start, "dtype")}
    assert seen("vargmaxl") == {"dst": (("rows", 1), "int32"), "a": (tile, "dtype")}
    assert seen("vbrc") == {"dst": (tile, "dtype"), "a": (("rows", 1), "dtype")}
    assert seen("vsel")["c"] == (tile, "bool")
    assert seen("vcast") == {"dst": (tile, "dtype2"), "a": (tile, "dtype")}
    for name in ["mma", "mmac"]:
        assert seen(name) == {"dst": (("m", "n"), "acc"), "a": (("m", "k"), "dtype"), "b": (("k", "n"), "dtype")}
    for name, source in {"mvl0a": tile, "mvl0at": tile[::-1], "mvl0b": tile, "mvl0bt": tile[::-1]}.items():
        assert seen(name) == {"dst": (tile, "dtype"), "src": (source, "dtype")}, name
    assert seen("mvl0c") == {"dst": (tile, "acc"), "src": (tile, "dtype")}
    for name in ["fix", "fixadd"]:
        assert seen(name) == {"dst": (tile, "dtype2"), "src": (tile, "dtype")}


def test_which_features_are_on() -> None:
    assert {spec.name for spec in ALL if not ISA.features[spec.feature]} == set(OFF.split())


def test_who_is_timed_and_who_has_a_meaning() -> None:
    """What a unit executes has a timing class and one meaning; the sequencer has neither, but for its arithmetic."""
    for spec in ALL:
        if spec.unit in ("seq", "any"):
            assert spec.timing is None and spec.function is None, spec.name
            assert (spec.semantics is not None) == (spec.name in ["sadd", "ssub", "smul", "scdiv", "smin", "slt"]), (
                spec.name
            )
        elif ISA.features[spec.feature]:
            assert spec.timing is not None and (spec.semantics is None) != (spec.function is None), spec.name
            assert (spec.unit == "vector") == (spec.semantics is not None), spec.name


def test_who_traps() -> None:
    """Global memory is checked against the windows, buffers against their size, both for alignment."""
    for spec in ALL:
        spaces = {space for region in spec.regions for space in region.spaces}
        if spec.unit in ("seq", "any") or not ISA.features[spec.feature]:
            continue
        expected = {"alignment", "buffer_range"} | ({"gm_range"} if "gm" in spaces else set())
        assert set(spec.traps) == expected, spec.name
    assert set(only("lds").traps) == {"gm_range", "alignment"}
    assert only("scdiv").traps == ("divide_by_zero",)
    assert set(ISA.traps) == {"gm_range", "buffer_range", "alignment", "divide_by_zero", "cycle_limit"}


@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name: str) -> None:
    with np.errstate(all="ignore"):
        expected = UNARY[name](A)
    np.testing.assert_allclose(np.broadcast_to(evaluated(name, a=A), A.shape), expected, rtol=1e-12)


@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name: str) -> None:
    """The operands in order; with an immediate it stands second, in the reversed forms first."""
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(evaluated(f"v{name}", a=A, b=B), BINARY[name](A, B))
        np.testing.assert_array_equal(
            evaluated(f"v{name}s" if name != "sub" else "vadds", a=A, imm=3.0), expected_of(name)
        )
    if name in ("sub", "div"):
        np.testing.assert_array_equal(evaluated(f"vr{name}s", a=B, imm=3.0), BINARY[name](3.0, B))


def expected_of(name: str) -> Any:
    """`a` and 3; subtracting an immediate is adding its negative, so there is no instruction for it."""
    return BINARY["add" if name == "sub" else name](A, 3.0)


def test_choice_logic_and_reductions() -> None:
    np.testing.assert_array_equal(evaluated("vsel", a=A, b=B, c=C), np.where(C, A, B))
    flags, others = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert evaluated("vand", a=flags, b=others).tolist() == [True, False, False, False]
    assert evaluated("vor", a=flags, b=others).tolist() == [True, True, True, False]
    assert evaluated("vxor", a=flags, b=others).tolist() == [False, True, True, False]
    assert evaluated("vnot", a=flags).tolist() == [False, False, True, True]
    assert evaluated("vnot", a=np.array([0, 5, -1], np.int32)).tolist() == [-1, -6, 0]
    tile = np.array([[1.0, -7.0, 3.0], [4.0, 5.0, -6.0]])
    for name, rows, columns in (
        ("vsum", [-3.0, 3.0], [5.0, -2.0, -3.0]),
        ("vmax", [3.0, 5.0], [4.0, 5.0, 3.0]),
        ("vmin", [-7.0, -6.0], [1.0, -7.0, -6.0]),
        ("vprod", [-21.0, -120.0], [4.0, -35.0, -18.0]),
    ):
        assert np.ravel(evaluated(f"{name}l", a=tile)).tolist() == rows
        assert np.ravel(evaluated(f"{name}f", a=tile)).tolist() == columns


def test_numbers_prefix_sums_and_places() -> None:
    tile = np.array([[1.0, -7.0, 3.0], [4.0, 5.0, np.nan]])
    assert evaluated("vscanl", a=tile[:1], b=np.array([[10.0]])).tolist() == [[11.0, 4.0, 7.0]]
    assert evaluated("vscanf", a=tile[:, :2], b=np.array([[10.0, 0.0]])).tolist() == [[11.0, -7.0], [15.0, -2.0]]
    assert evaluated("vargmaxl", a=tile).tolist() == [[2], [2]]
    numbers = evaluated("viota", imm=np.float32(-1), step=np.float32(0.5), start=np.float32(4), cols=np.float32(3))
    assert numbers.tolist() == [[1.0, 1.5, 2.0]]


@pytest.mark.parametrize(
    ("name", "first", "second", "result"),
    [
        ("sadd", 7, -9, -2),
        ("ssub", 7, -9, 16),
        ("smul", 7, -9, -63),
        ("scdiv", 7, 2, 4),
        ("scdiv", -7, 2, -3),
        ("scdiv", 8, 2, 4),
        ("smin", 7, -9, -9),
        ("slt", 7, -9, 0),
        ("slt", -9, 7, 1),
        ("slt", 7, 7, 0),
    ],
)
def test_scalars(name: str, first: int, second: int, result: int) -> None:
    assert int(evaluated(name, ra=first, rb=second)) == result


@pytest.mark.parametrize("extension", list_resources("extension"))
def test_an_extension_adds_and_changes_nothing(extension: str) -> None:
    """Instructions of the base stay word for word what they are; new ones take opcodes that were left for them."""
    extended = load_isa(extensions=[extension])
    assert extended.hash != ISA.hash
    for name, spec in ISA.instructions.items():
        assert extended.instructions[name] == spec
    added = {spec.opcode for name, spec in extended.instructions.items() if name not in ISA.instructions}
    assert added and all(0xC0 <= opcode < 0xFF for opcode in added)
