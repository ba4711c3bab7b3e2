"""Every check of level lint fails on a description that is wrong in just that way.

The loader refuses most of these, so they are made past it: the resolved dictionary is changed and frozen without its checks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from npuvm.isa import Isa, load_isa
from npuvm.isa.conformance.bins import LINT_CHECKS, lint_bins
from npuvm.isa.conformance.invariants import invariant_cases, invariants_of
from npuvm.isa.conformance.layout import Layout
from npuvm.isa.conformance.lint import lint_cases
from npuvm.isa.freeze import freeze
from npuvm.isa.resources import data_root

ISA = load_isa()
RULES = invariants_of(ISA, data_root() / "isa" / "conformance")

Resolved = dict[str, Any]
Change = Callable[[Resolved], object]


def changed(change: Change) -> Isa:
    resolved: Resolved = copy.deepcopy(dict(ISA.resolved))
    change(resolved)
    return freeze(resolved, "0" * 64)


def stanza(resolved: Resolved, name: str) -> Resolved:
    found: Resolved = next(raw for raw in resolved["instructions"] if raw["name"] == name)
    return found


def operand(resolved: Resolved, instruction: str, name: str) -> Resolved:
    found: Resolved = next(spec for spec in stanza(resolved, instruction)["operands"] if spec["name"] == name)
    return found


def failed(isa: Isa) -> set[str]:
    return {check.id for check in lint_cases(isa, Layout(isa.resolved)) if check.expected != check.got}


CHANGES: dict[str, list[Change]] = {
    "vadd/stanza/cover": [
        lambda r: operand(r, "vadd", "b").update(bits=[1, 15, 8]),
        lambda r: operand(r, "vadd", "b").update(bits=[1, 60, 8]),
    ],
    "vadd/stanza/length": [
        lambda r: stanza(r, "vadd").update(words=2),
        lambda r: stanza(r, "vadd").update(words=8),
    ],
    "vadd/stanza/names": [
        lambda r: operand(r, "vadd", "b").update(name="a"),
        lambda r: operand(r, "vadd", "b").update(name="order"),
        lambda r: stanza(r, "vadd").update(opcode=stanza(r, "vsub")["opcode"]),
        lambda r: stanza(r, "vadd").update(doc=" "),
    ],
    "vadd/stanza/types": [
        lambda r: stanza(r, "vadd").update(dtypes=[]),
        lambda r: stanza(r, "vadd")["dtypes"].append(["fp32", None]),
        lambda r: operand(r, "vadd", "dst").update(dtype="dtype2"),
        lambda r: operand(r, "vadd", "dst").update(dtype="acc"),
    ],
    "vcast/stanza/types": [
        lambda r: stanza(r, "vcast").update(dtype2_bits=[0, 51, 2]),
        lambda r: operand(r, "vcast", "dst").update(dtype="dtype"),
    ],
    "grid/stanza/operands": [
        lambda r: operand(r, "grid", "loops").update(max=16),
        lambda r: operand(r, "grid", "loops").update(min=9),
        lambda r: operand(r, "grid", "t1").update(default=64),
        lambda r: operand(r, "grid", "t0").update(max=62),
    ],
    "barrier/stanza/operands": [
        lambda r: operand(r, "barrier", "scope").update(values={"core": 0, "group": 1, "launch": 1}),
        lambda r: operand(r, "barrier", "scope").update(values={"core": 0, "group": 1, "launch": 3}),
    ],
    "vadd/stanza/meaning": [
        lambda r: stanza(r, "vadd").update(semantics="dst = a + a"),
        lambda r: stanza(r, "vadd").update(semantics="dst = a + b + c"),
        lambda r: stanza(r, "vadd").update(semantics="b = a + b"),
        lambda r: stanza(r, "vadd").update(semantics="a + b"),
        lambda r: stanza(r, "vadd").update(semantics=None),
        lambda r: stanza(r, "vadd").update(function="matmul"),
        lambda r: operand(r, "vadd", "b").update(role="write"),
    ],
    "sadd/stanza/meaning": [lambda r: stanza(r, "sadd").update(semantics="rd = ra + ra")],
    "mma/stanza/meaning": [lambda r: stanza(r, "mma").update(function="no_such_function")],
    "vmuls/stanza/meaning": [lambda r: stanza(r, "vmuls").update(semantics="dst = a * a")],
    "vadd/stanza/reachable": [
        lambda r: operand(r, "vadd", "dst").update(bits=[0, 0, 8], min=255, max=255),
        lambda r: stanza(r, "vadd").update(opcode=0x158),
    ],
    "any/opcodes/unique": [lambda r: stanza(r, "vadd").update(opcode=0x59)],
    "any/opcodes/custom-space": [lambda r: stanza(r, "vadd").update(opcode=0xC3)],
    "any/opcodes/free": [
        lambda r: stanza(r, "vadd").update(opcode=0x158),
        lambda r: r["instructions"].extend({**stanza(r, "nop"), "opcode": code} for code in range(256)),
    ],
    "any/head/cover": [
        lambda r: r["head"].update(order=[0, 49, 1]),
        lambda r: r["head"].update(order=[0, 64, 1]),
    ],
    "any/dtypes/codes": [
        lambda r: r["dtypes"]["fp16"].update(code=0),
        lambda r: r["dtypes"]["fp16"].update(code=16),
    ],
    "any/units/codes": [lambda r: r["units"]["load"].update(code=2)],
    "any/spaces/codes": [lambda r: r["spaces"]["l1"].update(code=1)],
    "any/predicates/codes": [
        lambda r: r["predicates"].update(first=2),
        lambda r: r["predicates"].update(changes=8),
        lambda r: r["predicates"].update(always=7),
    ],
    "any/scopes/cover": [
        lambda r: r["semaphore_scopes"].update(group=[41, 51]),
        lambda r: r["semaphore_scopes"].update(group=[39, 51]),
        lambda r: r["limits"].update(semaphores=64),
    ],
}


def test_the_shipped_description_passes() -> None:
    assert failed(ISA) == set()


def cases() -> Iterator[Any]:
    for name, changes in CHANGES.items():
        for number, change in enumerate(changes):
            yield pytest.param(name, change, id=f"{name}-{number}")


@pytest.mark.parametrize(("name", "change"), list(cases()))
def test_a_check_fails(name: str, change: Change) -> None:
    assert f"lint/{name}" in failed(changed(change))


def test_every_check_is_shown_to_fail() -> None:
    tried = {tuple(name.split("/")[1:]) for name in CHANGES}
    assert {tuple(name.split("/")[2:]) for name in lint_bins(Layout(ISA.resolved))} == tried
    assert {what for section, what in tried if section == "stanza"} == set(LINT_CHECKS)


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("opcodes/vadd", lambda r: stanza(r, "vadd").update(opcode=0x8F)),
        ("opcodes/vmine", lambda r: r["instructions"].append({**stanza(r, "vadd"), "name": "vmine", "opcode": 0x8F})),
        ("unallocated/0xff", lambda r: stanza(r, "vadd").update(opcode=0xFF)),
        ("custom_opcodes/range", lambda r: r.update(custom_opcodes=[0xD0, 0xFF])),
        ("head/mask", lambda r: r["head"].update(mask=[0, 43, 7])),
        ("predicates/changed", lambda r: r["predicates"].update(changed=6, changes=5)),
        ("dtypes/fp8_e4m3", lambda r: r["dtypes"]["fp8_e4m3"].update(code=8)),
        ("dtype_bits/bool", lambda r: r["dtypes"]["bool"].update(bits=16, numpy="float16")),
        ("limits/rings", lambda r: r["limits"].update(rings=15)),
        ("vexp.rows/bits", lambda r: operand(r, "vexp", "rows").update(bits=[1, 33, 6])),
        ("vcast.dtype2/bits", lambda r: stanza(r, "vcast").update(dtype2_bits=[0, 52, 4])),
        ("ld.pad/bits", lambda r: stanza(r, "ld")["operands"].pop()),
        ("st.write/memories", lambda r: operand(r, "st", "dst").update(spaces=["gm", "ub"])),
        ("vadd.read/memories", lambda r: operand(r, "vadd", "a").update(spaces=["gm"])),
        ("vadd.read_and_write/memories", lambda r: operand(r, "vadd", "dst").update(role="readwrite")),
        ("align_bytes/ub", lambda r: r["spaces"]["ub"].update(align_bytes=16)),
        ("semaphore_scopes/group", lambda r: r["semaphore_scopes"].update(core=[0, 38], group=[39, 51])),
        ("stadd.traps/order", lambda r: stanza(r, "stadd").update(traps=["alignment", "gm_range", "buffer_range"])),
        ("vadd.traps/order", lambda r: stanza(r, "vadd")["traps"].remove("alignment")),
        ("nop.traps/order", lambda r: stanza(r, "nop").update(traps=["alignment"])),
        ("vexp.types/allowed", lambda r: stanza(r, "vexp")["dtypes"].pop()),
        ("vexp.feature/name", lambda r: stanza(r, "vexp").update(feature="scan")),
    ],
)
def test_an_invariant_fails(case: str, change: Change) -> None:
    assert RULES is not None
    wrong = [check.id for check in invariant_cases(changed(change), RULES) if check.expected != check.got]
    assert f"lint/invariants/{case}" in wrong


def test_every_operand_of_the_base_set_has_its_bits_written_by_hand() -> None:
    assert RULES is not None
    checks = {check.id for check in invariant_cases(ISA, RULES)}
    base = [spec for spec in ISA.instructions.values() if ISA.features[spec.feature]]
    wanted = {f"lint/invariants/{spec.name}.{operand.name}/bits" for spec in base for operand in spec.operands}
    assert wanted <= checks
