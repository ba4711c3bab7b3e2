"""Loading an instruction set: errors with file and line, extensions laid over, a hash that follows meaning and not layout."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from npuvm.isa import Insn, IsaError, encode, load_isa, load_isa_text
from npuvm.isa.resources import data_root

BASE = (data_root() / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")
FMA = (data_root() / "isa" / "extensions" / "fma.yaml").read_text(encoding="utf-8")
ISA = load_isa()
LINES = BASE.splitlines()


def extension(*stanzas: str, more: str = "") -> str:
    """An extension with these instruction stanzas."""
    listed = "".join(f"  - {{{stanza}}}\n" for stanza in stanzas)
    return f'extension: mine\nversion: "0.1"\nextends: npu 1.0\n{more}instructions:\n{listed}'


GOOD = 'name: vtwice, opcode: 0xf1, format: vun, dtypes: [fp16], semantics: "dst = a + a", doc: "Double."'


def line_of(text: str, piece: str) -> int:
    """1-based number of the only line that holds `piece`."""
    numbers = [i for i, line in enumerate(text.splitlines(), 1) if piece in line]
    assert len(numbers) == 1, numbers
    return numbers[0]


def test_shipped_instruction_set() -> None:
    assert (ISA.name, ISA.version, ISA.extensions) == ("npu", "1.0", ())
    assert re.fullmatch("[0-9a-f]{64}", ISA.hash)
    assert load_isa("npu_v1") is ISA
    assert load_isa_text(BASE).hash == ISA.hash
    for name in ("vexp", "mma", "ld", "grid"):
        assert ISA.instruction(name).name == name
    with pytest.raises(IsaError, match=r"no instruction 'vfma' in npu 1\.0"):
        ISA.instruction("vfma")


def test_semaphore_scopes() -> None:
    assert [ISA.semaphore_scope(n) for n in (0, 39, 40, 51, 52, 62)] == [
        "core",
        "core",
        "group",
        "group",
        "launch",
        "launch",
    ]
    with pytest.raises(IsaError, match=r"semaphore 63 is outside 0\.\.62"):
        ISA.semaphore_scope(63)


def test_hash_ignores_order_and_comments() -> None:
    data = yaml.safe_load(BASE)
    turned: dict[str, Any] = {key: data[key] for key in reversed(list(data))}
    for section in ("dtypes", "formats", "units", "features", "traps"):
        turned[section] = {key: data[section][key] for key in reversed(list(data[section]))}
    turned["instructions"] = data["instructions"][::-1]
    again = load_isa_text("# another comment\n" + yaml.safe_dump(turned, sort_keys=False))
    assert again.hash == ISA.hash
    assert again.resolved_json() == ISA.resolved_json()


def test_hash_follows_every_encoding() -> None:
    for old, new in (
        ("opcode: 0x58", "opcode: 0x57"),
        ("dst = a - b", "dst = b - a"),
        ('pad: {bits: "2:31:0"', 'pad: {bits: "2:32:1"'),
    ):
        assert load_isa_text(BASE.replace(old, new, 1)).hash != ISA.hash
    assert load_isa(extensions=["fma"]).hash != ISA.hash


def test_resolved_json_is_complete() -> None:
    resolved = json.loads(ISA.resolved_json())
    assert hashlib.sha256(ISA.resolved_json().encode()).hexdigest() == ISA.hash
    names = [entry["name"] for entry in resolved["instructions"]]
    assert len(names) == len(ISA.instructions)
    (vadd,) = (entry for entry in resolved["instructions"] if entry["name"] == "vadd")
    assert [o["name"] for o in vadd["operands"]] == ["dst", "a", "rows", "cols", "b"]
    assert vadd["operands"][4]["bits"] == [1, 16, 8]


def test_extension() -> None:
    isa = load_isa(extensions=["fma"])
    assert isa.extensions == ("fma 1.0",)
    args = {"dst": 1, "a": 2, "b": 3, "c": 4, "rows": 5, "cols": 6}
    # opcode 0xc0, one operand word, fp16; dst at 0, a at 8, b at 16, c at 24, rows at 32, cols at 38
    operands = 1 + (2 << 8) + (3 << 16) + (4 << 24) + (5 << 32) + (6 << 38)
    assert encode(isa, Insn("vfma", "fp16", args=args)) == [0xC0 + (1 << 8) + (1 << 11), operands]
    for name, instruction in ISA.instructions.items():
        assert isa.instruction(name) == instruction
    with pytest.raises(IsaError, match=r"no instruction 'vnone' in npu 1\.0 with fma 1\.0"):
        isa.instruction("vnone")


def test_extensions_add_up(tmp_path: Path) -> None:
    other = tmp_path / "mine.yaml"
    other.write_text(extension(GOOD), encoding="utf-8")
    isa = load_isa(extensions=["fma", other])
    assert isa.extensions == ("fma 1.0", "mine 0.1")
    assert isa.by_opcode[0xF1].name == "vtwice"
    assert load_isa_text(BASE, [FMA, extension(GOOD)]).hash == isa.hash


def test_extension_with_a_format_and_a_feature() -> None:
    more = 'formats:\n  vpair: {inherits: vbin, words: 2, operands: {scale: {bits: "2:31:0", kind: bits32}}}\n'
    text = extension(
        'name: vaxpy, opcode: 0xc8, format: vpair, dtypes: [fp32], semantics: "dst = a * scale + b", doc: "Scaled add."',
        more=more,
    )
    isa = load_isa_text(BASE, [text])
    assert [o.name for o in isa.instruction("vaxpy").operands] == ["dst", "a", "rows", "cols", "b", "scale"]
    assert isa.instruction("vaxpy").words == 2


@pytest.mark.parametrize(
    ("stanza", "message"),
    [
        (GOOD.replace("vtwice", "vadd"), "instruction 'vadd' is defined twice"),
        (GOOD.replace("0xf1", "0x58"), "opcode 0x58 is taken by vadd"),
        (GOOD.replace("0xf1", "0"), "opcode: is 0; allowed: an integer from 1 to 255"),
        (GOOD.replace("0xf1", "010"), "looks octal"),
        (GOOD.replace("vun", "vany"), "no format 'vany'; there are: "),
        (GOOD.replace("fp16", "fp12"), "no data type 'fp12'"),
        (GOOD.replace("fp16", "fp16->fp32"), "for formats with dtype2"),
        (GOOD.replace("a + a", "a + z"), "no such operand; there are: dst, a"),
        (GOOD.replace("a + a", "a + height"), "no such operand"),
        (GOOD.replace("dst = a", "a = a"), "semantics assigns a from a; allowed: dst from a"),
        (GOOD.replace("a + a", "dst + a"), "semantics assigns dst from dst, a; allowed: dst from a"),
        (GOOD.replace("a + a", "import os"), "is no expression"),
        (GOOD.replace('semantics: "dst = a + a", ', ""), "needs either semantics or function"),
        (GOOD.replace("doc:", "function: copy_tile, timing: valu, doc:"), "needs either semantics or function"),
        (GOOD.replace('semantics: "dst = a + a"', "function: frob, timing: valu"), "function 'frob' is unknown; there are: "),
        (GOOD.replace('semantics: "dst = a + a"', "function: copy_tile"), "needs a timing class"),
        (GOOD.replace("doc:", "feature: magic, doc:"), "feature 'magic' is unknown"),
        (GOOD.replace("doc:", "traps: [meltdown], doc:"), "trap 'meltdown' is unknown"),
        (GOOD.replace("doc:", "unit: gpu, doc:"), "unit 'gpu' is unknown"),
        (GOOD.replace("doc:", "colour: red, doc:"), "unknown key; allowed: doc, dtypes"),
        (GOOD.replace("doc:", "operands: {z: {dtype: bool}}, doc:"), "format vun has no such operand"),
        (GOOD.replace("doc:", "operands: {a: {dtype: fp12}}, doc:"), "dtype 'fp12' is unknown"),
        (GOOD.replace("doc:", "operands: {a: {spaces: [l3]}}, doc:"), "space 'l3' is unknown"),
        (GOOD.replace("doc:", "operands: {a: {shape: [rows, depth]}}, doc:"), "shape names 'depth'"),
        (GOOD.replace("doc:", "operands: {a: {bits: \"1:7:0\"}}, doc:"), "unknown key"),
        (GOOD.replace("vtwice", "Vtwice"), "a name of lower-case letters"),
        (GOOD.replace("opcode: 0xf1, ", ""), "key 'opcode' is missing"),
        (GOOD.replace('dtypes: [fp16]', "dtypes: []"), "a list of 1 or more"),
        (GOOD.replace('dtypes: [fp16], ', ""), "needs a list of dtypes"),
    ],
)  # fmt: skip
def test_errors_in_a_stanza_name_its_line(stanza: str, message: str) -> None:
    text = extension('name: vfine, opcode: 0xe0, format: vun, dtypes: [fp16], semantics: "dst = a", doc: ""', stanza)
    with pytest.raises(IsaError) as caught:
        load_isa_text(BASE, [text], "t.yaml")
    assert message in caught.value.message
    assert (caught.value.where or "").startswith(f"t.yaml+1:{line_of(text, stanza)}:")


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("  loops: 8", "  loops: 8\n  loops: 9", "  loops: 9", "duplicate key 'loops'"),
        ('  dtype: "14:11"', '  dtype: "14:10"', "", "head.dtype: overlaps another head field"),
        ('c: {bits: "1:31:24", kind', 'c: {bits: "1:30:23", kind', "name: vsel,", "vsel.c: its bits in word 1 overlap"),
        ('pad: {bits: "2:31:0"', 'pad: {bits: "3:31:0"', "name: ld,", "name word 3; the format has words 0 to 2"),
        ("vtri:\n    inherits: vbin", "vtri:\n    inherits: vtrj", "inherits: vtrj", "no format 'vtrj'"),
        ("vbin:\n    inherits: vun", "vbin:\n    inherits: vtri", "vbin:", "inherits from itself: vbin -> vtri -> vbin"),
        ("kind: bits32, default: 0}", "kind: bits33, default: 0}", "name: ld,", "kind 'bits33' is unknown"),
        ("fp32: {code: 0, bits: 32", "fp32: {code: 0, bits: 16", "", "dtypes.fp32.bits: is 16, float32 has 32"),
        ("numpy: bfloat16", "numpy: bfloat17", "", "'bfloat17' is neither a numpy nor an ml_dtypes type"),
        ("fp16: {code: 1", "fp16: {code: 0", "", "codes must be unique"),
        ("semaphores: 63", "semaphores: 64", "", "64 do not fit the head's wait and set fields"),
        ("  none: {unit: seq, words: 0", "  none: {words: 0", "  none: ", "key 'unit' is missing and not inherited"),
        ("word_bits: 64", "word_bits: 32", "word_bits: 32", "word_bits: is 32; allowed: an integer from 64 to 64"),
        ("custom_opcodes: [0xc0, 0xff]", "custom_opcodes: 0xc0", "custom_opcodes: 0xc0", "a list of 2"),
        ("size: {repr: index, table: sizes", "size: {repr: index, table: sighs", "", "names table 'sighs'"),
        ("kind: enum, values: {core: 0, group: 1, launch: 2}", "kind: enum", "", "an enum needs values"),
    ],
)  # fmt: skip
def test_errors_in_the_base_name_the_place(old: str, new: str, at: str, message: str) -> None:
    assert old in BASE
    text = BASE.replace(old, new, 1)
    with pytest.raises(IsaError) as caught:
        load_isa_text(text, name="base.yaml")
    assert message in caught.value.message
    if at:
        assert (caught.value.where or "").startswith(f"base.yaml:{line_of(text, at)}:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FMA.replace("npu 1.0", "npu 2.0"), "extends: is 'npu 2.0'; the base is 'npu 1.0'"),
        (FMA.replace("extends", "extent"), "unknown key; allowed: doc, extends, extension"),
        (FMA.replace('version: "1.0"', "version: 1.0"), "version: is 1.0; allowed: a version in quotes"),
        (extension(GOOD, more="formats:\n  vun: {unit: vector, words: 1}\n"), "exists already; an extension adds"),
        (extension(GOOD, more="features:\n  base: {default: true, doc: ''}\n"), "exists already"),
        (extension(GOOD, more="primitive_timing:\n  add: vmul\n"), "exists already"),
        (extension(GOOD, more="units:\n  gpu: {code: 9, doc: ''}\n"), "unknown key"),
        ("", "the file is empty"),
        ("- 1", "must be a mapping"),
    ],
)
def test_errors_in_extensions(text: str, message: str) -> None:
    with pytest.raises(IsaError) as caught:
        load_isa_text(BASE, [text])
    assert message in caught.value.message
    assert "+1" in (caught.value.where or "")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(IsaError, match="no extension named 'nope'; shipped are: activation, fma, fp8, hswish"):
        load_isa(extensions=["nope"])
    with pytest.raises(IsaError, match="no such file"):
        load_isa(tmp_path / "gone.yaml")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(extension(GOOD), encoding="utf-8")
    first = load_isa(extensions=[path])
    assert load_isa(extensions=[path]) is first
    path.write_text(extension(GOOD.replace("0xf1", "0xc2")), encoding="utf-8")
    assert load_isa(extensions=[path]).hash != first.hash


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


DATA = yaml.safe_load(BASE)
PLACES = [place for place in places(DATA) if place]


@settings(max_examples=60)
@given(st.sampled_from(PLACES), st.sampled_from([None, -7, 1 << 70, "zz", [1, "q"], {"q": 1}, True, 1.5, "del"]))
def test_damage_anywhere_gives_a_set_or_an_error(place: tuple[Any, ...], value: Any) -> None:
    """Whatever stands at one place of the file, loading ends in an instruction set or in IsaError, never in a traceback."""
    data = copy.deepcopy(DATA)
    parent = data
    for key in place[:-1]:
        parent = parent[key]
    if value == "del":
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    try:
        isa = load_isa_text(json.dumps(data))
    except IsaError as exc:
        assert exc.message
    else:
        assert isa.instructions
