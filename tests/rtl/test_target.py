"""The decoder as a target of the conformance suite: what it says it can do, and answers that stay visible when wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.rtl.decoder_faults import FAULTS, faulty_decoder
from tests.rtl.decoder_oracle import expected_fields

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl import Simulator
from npuvm.hw.rtl.decoder_bench import DecoderOutputs, decoder_outputs
from npuvm.hw.rtl.target import SIMULATOR_VARIABLE, RtlTarget, decoded, rtl_target
from npuvm.isa import Insn, Pred, WordClass, encode, load_isa
from npuvm.isa.conformance import SuiteOptions, run_suite
from npuvm.isa.conformance.target import Decoded, Level, ProgramCase

ISA = load_isa()
ADD = Insn(
    "vadd", "fp16", None, {"dst": 9, "a": 8, "b": 7, "rows": 6, "cols": 5}, (3, 4), (62,), Pred("changed", 0x81), True
)
AFFINE = Insn(
    "sza", None, None, {"size": 1, "loop_a": 2, "loop_b": 3, "full": 4, "base": -5, "step_a": -(1 << 31), "step_b": 6}
)


def outputs_for(insn: Insn, **changed: int) -> DecoderOutputs:
    """The outputs that the bit positions of the instruction give, with some of them changed."""
    ports = {port.name: port for port in decoder_outputs(ISA)}
    fields = dict.fromkeys(ports, 0) | expected_fields(ISA, encode(ISA, insn)) | changed
    assert fields.keys() == ports.keys()
    columns = {name: np.array([value & (1 << ports[name].width) - 1], np.uint64) for name, value in fields.items()}
    return DecoderOutputs(columns, ports)


@pytest.mark.parametrize(("insn", "unit", "words"), [(ADD, "vector", 2), (AFFINE, "seq", 3)])
def test_an_instruction_is_put_together_from_the_outputs(insn: Insn, unit: str, words: int) -> None:
    assert decoded(ISA, outputs_for(insn)) == [Decoded(WordClass.LEGAL, words, insn, unit)]


def test_nothing_but_the_class_is_given_for_words_that_are_not_legal() -> None:
    for code, word_class in enumerate(WordClass):
        answer = decoded(ISA, outputs_for(ADD, word_class=code))
        assert (answer == [Decoded(word_class)]) == (word_class is not WordClass.LEGAL)


def test_a_class_that_there_is_not_is_an_error() -> None:
    with pytest.raises(RtlError, match="class 7 for vector 0"):
        decoded(ISA, outputs_for(ADD, word_class=7))


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"opcode": 0xEE}, Insn("opcode 0xee", "fp16", None, {}, ADD.wait, ADD.set, ADD.pred, ADD.order)),
        ({"tile1": 77}, Insn("vadd", "fp16", None, {**ADD.args, "tile1": 77}, ADD.wait, ADD.set, ADD.pred, True)),
        (
            {"size_valid": 1},
            Insn("vadd", "fp16", None, {**ADD.args, "size_valid": 1}, ADD.wait, ADD.set, ADD.pred, True),
        ),
        ({"dtype": 15}, Insn("vadd", "type 15", None, ADD.args, ADD.wait, ADD.set, ADD.pred, True)),
        ({"pred": 0}, Insn("vadd", "fp16", None, ADD.args, ADD.wait, ADD.set, Pred("always", 0x81), True)),
    ],
)
def test_a_wrong_output_shows_in_the_instruction(changed: dict[str, int], wrong: Insn) -> None:
    (answer,) = decoded(ISA, outputs_for(ADD, **changed))
    assert answer.insn == wrong != ADD


def test_the_target_decodes_and_says_what_it_can(icarus: Simulator) -> None:
    target = rtl_target()
    assert (target.name, target.unavailable()) == ("rtl", icarus.missing)
    assert target.levels() == {Level.GOLDEN, Level.ENCODING, Level.CLASSES}
    programs = [encode(ISA, ADD), encode(ISA, ADD)[:1], encode(ISA, AFFINE) * 5, [], [0xFF]]
    assert target.decode(ISA, programs) == [
        Decoded(WordClass.LEGAL, 2, ADD, "vector"),
        Decoded(WordClass.UNALLOCATED),
        Decoded(WordClass.LEGAL, 3, AFFINE, "seq"),
        Decoded(WordClass.UNALLOCATED),
        Decoded(WordClass.UNALLOCATED),
    ]
    assert target.decode(ISA, []) == []


def test_the_target_runs_no_program() -> None:
    with pytest.raises(RtlError, match="the decoder runs no programs, and add-1 is one"):
        rtl_target().run(ISA, ProgramCase("add-1", Level.SEMANTICS, "edge", "halt\n"))


def test_the_environment_names_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIMULATOR_VARIABLE, "questa")
    with pytest.raises(RtlError, match="no simulator 'questa'"):
        rtl_target()


def test_a_target_without_its_simulator_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "iverilog" in (rtl_target().unavailable() or "")


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_finds_a_faulty_decoder(fault: str, icarus: Simulator, tmp_path: Path) -> None:
    target = RtlTarget(icarus.name, faulty_decoder(ISA, tmp_path, FAULTS[fault]))
    level = Level.CLASSES if "reserved" in fault else Level.GOLDEN
    assert run_suite(ISA, target, SuiteOptions(frozenset({level}), words=0)).level(level).failures
