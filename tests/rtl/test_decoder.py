"""The generated decoder in a simulator against the Python decoder: every class, every bit flip, random words."""

from __future__ import annotations

import collections
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.rtl.decoder_faults import FAULTS, faulty_decoder
from tests.rtl.decoder_oracle import expected, expected_fields, unit_of

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl import Simulator
from npuvm.hw.rtl.decoder_bench import DecoderBench, decode_directly
from npuvm.hw.rtl.target import decoded
from npuvm.hw.rtl.vectors import (
    Vectors,
    bit_flips,
    head_vectors,
    join,
    legal_insns,
    random_vectors,
    vectors_of,
)
from npuvm.isa import Insn, Isa, Pred, WordClass, encode, load_isa, load_isa_text
from npuvm.isa.conformance.target import Decoded
from npuvm.isa.resources import data_root, list_resources

WORDS_IN_ICARUS = 20_000
WORDS_IN_VERILATOR = 980_000


@pytest.fixture(scope="module")
def isa() -> Isa:
    return load_isa()


@pytest.fixture(scope="module")
def bench(isa: Isa, icarus: Simulator) -> DecoderBench:
    return DecoderBench(isa, icarus)


def differences(
    isa: Isa, bench: DecoderBench, vectors: Vectors, seen: collections.Counter[WordClass] | None = None
) -> list[tuple[list[int], Decoded, Decoded]]:
    """(words, what the hardware decodes, what Python decodes) wherever they are not the same; counts classes in `seen`."""
    assert len(vectors)
    got, wanted = decoded(isa, bench.decode(vectors)), expected(isa, vectors)
    assert len(got) == len(wanted) == len(vectors)
    if seen is not None:
        seen.update(answer.word_class for answer in wanted)
    return [(vectors.program(row), g, w) for row, (g, w) in enumerate(zip(got, wanted, strict=True)) if g != w]


def one_of_each(isa: Isa) -> list[Insn]:
    """For each instruction the variant with the largest operands, all of its synchronisation and a predicate."""
    largest: dict[str, Insn] = {}
    for insn in sorted(legal_insns(isa), key=lambda insn: sum(insn.args.values())):
        largest[insn.op] = insn
    last = isa.limits["semaphores"] - 1
    return [
        replace(insn, wait=(0, last), set=(last, 1), pred=Pred("changed", 0xA5), order=True)
        for insn in largest.values()
    ]


def test_every_class_of_every_instruction_is_decoded_as_it_was_meant(isa: Isa, bench: DecoderBench) -> None:
    insns = legal_insns(isa)
    vectors = vectors_of([encode(isa, insn) for insn in insns])
    meant = [
        Decoded(WordClass.LEGAL, int(words), insn, unit_of(isa, insn))
        for insn, words in zip(insns, vectors.avail, strict=True)
    ]
    assert {insn.op for insn in insns} == {s.name for s in isa.instructions.values() if isa.features[s.feature]}
    assert decoded(isa, bench.decode(vectors)) == meant
    assert expected(isa, vectors) == meant


def test_every_bit_flip_of_one_of_each_instruction(isa: Isa, bench: DecoderBench) -> None:
    vectors = bit_flips(isa, one_of_each(isa))
    assert len(vectors) == 64 * sum(isa.instruction(insn.op).words + 1 for insn in one_of_each(isa))
    assert not differences(isa, bench, vectors)


def test_every_opcode_with_every_length_and_every_number_of_words_that_are_there(isa: Isa, bench: DecoderBench) -> None:
    vectors = head_vectors(isa, seed=5)
    heads = {(int(head) & 0x7FF, int(avail)) for head, avail in zip(vectors.words[:, 0], vectors.avail, strict=True)}
    assert len(heads) == 256 * 8 * 9
    assert not differences(isa, bench, vectors)


def test_random_words(isa: Isa, bench: DecoderBench) -> None:
    vectors = random_vectors(isa, 4_000, seed=6)
    seen: collections.Counter[WordClass] = collections.Counter()
    assert not differences(isa, bench, vectors, seen)
    few = WordClass.FEATURE_OFF  # most instructions are on
    assert seen[few]
    assert min(seen[word_class] for word_class in WordClass if word_class is not few) > 50


def test_all_outputs_of_any_hit_and_zero_otherwise(isa: Isa, bench: DecoderBench) -> None:
    vectors = join([random_vectors(isa, 1_000, seed=7), bit_flips(isa, one_of_each(isa)[::9])])
    outputs = bench.decode(vectors)
    for row in range(len(vectors)):
        fields = {name: int(column[row]) for name, column in outputs.columns.items() if name != "word_class"}
        wanted = {
            name: value & (1 << outputs.ports[name].width) - 1
            for name, value in expected_fields(isa, vectors.program(row)).items()
        }
        assert {name: value for name, value in fields.items() if value} == wanted, vectors.program(row)


def test_no_output_is_ever_unknown_whatever_lies_past_the_end(isa: Isa, bench: DecoderBench, tmp_path: Path) -> None:
    vectors = join([random_vectors(isa, 200, seed=8), vectors_of([encode(isa, insn) for insn in one_of_each(isa)])])
    one_by_one = decode_directly(isa, bench.simulator, vectors, tmp_path)
    at_once = bench.decode(vectors)
    assert list(one_by_one.columns) == list(at_once.columns)
    for name, column in at_once.columns.items():
        assert np.array_equal(one_by_one.columns[name], column), name


@pytest.mark.parametrize("extension", list_resources("extension"))
def test_a_decoder_with_an_extension(extension: str, icarus: Simulator) -> None:
    isa, base = load_isa(extensions=[extension]), load_isa()
    new = [insn for insn in legal_insns(isa) if insn.op not in base.instructions]
    assert new
    vectors = join(
        [vectors_of([encode(isa, insn) for insn in new]), bit_flips(isa, new[:1]), random_vectors(isa, 300, 9)]
    )
    assert not differences(isa, DecoderBench(isa, icarus), vectors)


def test_features_that_are_on_are_decoded(icarus: Simulator) -> None:
    text = (data_root() / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")
    isa = load_isa_text(text.replace("default: false", "default: true"))
    assert all(isa.features.values())
    base = load_isa()
    off = {spec.name for spec in base.instructions.values() if not base.features[spec.feature]}
    new = [insn for insn in legal_insns(isa) if insn.op in off]
    assert {insn.op for insn in new} == off
    vectors = join([vectors_of([encode(isa, insn) for insn in new]), random_vectors(isa, 300, 10)])
    assert not differences(isa, DecoderBench(isa, icarus), vectors)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_decoder_is_found(fault: str, isa: Isa, icarus: Simulator, tmp_path: Path) -> None:
    sample = one_of_each(isa)
    vectors = join(
        [
            vectors_of([encode(isa, insn) for insn in sample]),
            vectors_of([encode(isa, insn)[:-1] for insn in sample]),
            bit_flips(isa, [insn for insn in sample if insn.op in ("sza", "vadd", "nop")]),
        ]
    )
    bench = DecoderBench(isa, icarus, sources=faulty_decoder(isa, tmp_path, FAULTS[fault]))
    assert differences(isa, bench, vectors)


def test_an_output_that_is_unknown_is_an_error(isa: Isa, icarus: Simulator, tmp_path: Path) -> None:
    sources = faulty_decoder(isa, tmp_path, {"length": "got_opcode == 8'h58 ? 4'bx : got_length"})
    bench = DecoderBench(isa, icarus, sources=sources)
    fine, unknown = (
        Insn(op, "fp32", args={o.name: 1 for o in isa.instruction(op).operands}) for op in ("vsub", "vadd")
    )
    assert not differences(isa, bench, vectors_of([encode(isa, fine)]))
    with pytest.raises(RtlError, match=r"unknown \(X\) in 1 of 2 vectors"):
        bench.decode(vectors_of([encode(isa, fine), encode(isa, unknown)]))


@pytest.mark.slow
def test_a_million_random_words(isa: Isa, bench: DecoderBench, verilator: Simulator) -> None:
    """Split by speed: Icarus, which knows X, does about 2 000 words a second, Verilator 200 000."""
    assert WORDS_IN_ICARUS + WORDS_IN_VERILATOR == 1_000_000
    assert not differences(isa, bench, random_vectors(isa, WORDS_IN_ICARUS, seed=11))
    quick = DecoderBench(isa, verilator)
    seen: collections.Counter[WordClass] = collections.Counter()
    for part in range(10):
        vectors = random_vectors(isa, WORDS_IN_VERILATOR // 10, seed=12 + part)
        assert not differences(isa, quick, vectors, seen)
    # Of features that are off only the two instructions that sort are left.
    assert min(seen[word_class] for word_class in WordClass) > 2_000
