"""The suite's own reading of the encodings, against words assembled by hand and against the codec that it must not use."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.strategies import insns

from npuvm.isa import DecodeError, Insn, WordClass, assemble_insns, decode_at, load_isa
from npuvm.isa.conformance.layout import Layout
from npuvm.isa.resources import data_root
from npuvm.isa.yaml_strict import load_yaml

ISA = load_isa()
LAYOUT = Layout(ISA.resolved)
BY_HAND: dict[str, list[dict[str, Any]]] = load_yaml(data_root() / "isa" / "conformance" / "golden_words.yaml").data
INDEPENDENT = ("layout", "bins", "classes", "sample")


@pytest.mark.parametrize("entry", BY_HAND["golden"], ids=lambda entry: entry["name"])
def test_words_by_hand(entry: dict[str, Any]) -> None:
    words = [int(word, 16) for word in entry["words"]]
    (insn,) = assemble_insns(ISA, entry["asm"])
    decoded = LAYOUT.decode(words)
    assert (decoded.word_class, decoded.words, decoded.insn) == (WordClass.LEGAL, len(words), insn)
    assert LAYOUT.pack(LAYOUT.entries[insn.op], LAYOUT.values(insn)) == words


@pytest.mark.parametrize("entry", BY_HAND["refused"], ids=lambda entry: entry["name"])
def test_refused_words_by_hand(entry: dict[str, Any]) -> None:
    assert LAYOUT.decode([int(word, 16) for word in entry["words"]]).word_class.value == entry["class"]


@given(insns(ISA), st.integers(0, 8 * 64 - 1), st.lists(st.integers(0, (1 << 64) - 1), max_size=3))
def test_it_agrees_with_the_codec_on_damaged_words(insn: Insn, bit: int, tail: list[int]) -> None:
    words = LAYOUT.pack(LAYOUT.entries[insn.op], LAYOUT.values(insn))
    words[bit // 64 % len(words)] ^= 1 << bit % 64
    decoded = LAYOUT.decode(words + tail)
    try:
        found, length = decode_at(ISA, words + tail)
    except DecodeError as exc:
        assert (decoded.word_class.value, decoded.words, decoded.insn) == (exc.word_class, 0, None)
    else:
        assert (decoded.word_class, decoded.words, decoded.insn) == (WordClass.LEGAL, length, found)


def test_the_unit_of_an_instruction_for_any_unit_is_the_one_it_names() -> None:
    (insn,) = assemble_insns(ISA, "usync unit=fixpipe | set m1")
    assert LAYOUT.decode(LAYOUT.pack(LAYOUT.entries["usync"], LAYOUT.values(insn))).unit == "fixpipe"


@pytest.mark.parametrize("module", INDEPENDENT)
def test_expectations_do_not_come_from_the_codec(module: str) -> None:
    """What says what is right must not import what is tested."""
    source = inspect.getsource(importlib.import_module(f"npuvm.isa.conformance.{module}"))
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported
    assert not imported & {f"npuvm.isa.{name}" for name in ("codec", "asm", "disasm", "check", "freeze", "load")}
