"""Verification by form finds what verification one by one finds: the same error or none, for each image."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from tests.isa.verifier.form_programs import HALVES, LAUNCHED, MIXED, ROWS, STRIDED
from tests.isa.verifier.programs import CAUSAL, ELEMENTWISE, ISA, PIPELINE, PRODUCT, RELAY, SPLIT, UNIFIED, change
from tests.isa.verifier.value_mutants import value_mutants

from npuvm.isa import CapacityLimits, Image, VerifyError, assemble, verify
from npuvm.isa.image_tables import EntryColumns, EvenEntries, RelocTable
from npuvm.isa.verifier import Verifier, known
from npuvm.isa.verifier.classes import alike, class_tiles, range_classes
from npuvm.isa.verifier.launch import MAX_STEPS, Verification
from npuvm.isa.verifier.program import Leaf
from npuvm.isa.verifier.reach import Reach
from npuvm.isa.verifier.report import Abandon, Findings
from npuvm.isa.verifier.static import StaticChecks
from npuvm.isa.verifier.tables import Const, Tables
from npuvm.isa.verifier.template import Template
from npuvm.isa.verifier.values import Forms
from npuvm.isa.verifier.walk import changed_loops, grid_tiles

PROGRAMS = {
    "rows": (ROWS, UNIFIED),
    "halves": (HALVES, UNIFIED),
    "elementwise": (ELEMENTWISE, UNIFIED),
    "product": (PRODUCT, UNIFIED),
    "relay": (RELAY, UNIFIED),
    "strided": (STRIDED, UNIFIED),
    "mixed": (MIXED, SPLIT),
    "launched": (LAUNCHED, SPLIT),
}


def error_of(image: Image, limits: CapacityLimits) -> str | None:
    """What verification one by one finds first."""
    try:
        verify(ISA, image, limits)
    except VerifyError as exc:
        return str(exc)
    return None


def checked(verifier: Verifier, image: Image) -> str | None:
    try:
        verifier.check(image)
    except VerifyError as exc:
        return str(exc)
    return None


@pytest.mark.parametrize("name", PROGRAMS)
def test_images_with_other_numbers_get_the_same_verdict(name: str) -> None:
    text, limits = PROGRAMS[name]
    image = assemble(ISA, text, name)
    verifier = Verifier(ISA, limits)
    assert checked(verifier, image) is None
    legal, rules = 0, Counter[str]()
    for mutant in value_mutants(ISA, image, Random(name), 300):
        expected, before = error_of(mutant, limits), verifier.images
        assert checked(verifier, mutant) == expected
        legal += expected is None and verifier.images > before
        rules[expected.rsplit("[")[-1] if expected else ""] += 1
    assert verifier.by_form > 0.9 * legal > 0
    usual = {"alignment]", "bounds]", "range]", "slot]"}
    assert {"": usual, "rows": {"balance]", "deadlock]", "range]"}, "halves": {"hazard]", *usual}}.get(
        name, usual
    ) <= set(rules)


@pytest.mark.parametrize("name", ["strided", "mixed"])
def test_images_with_a_flipped_bit_get_the_same_verdict(name: str) -> None:
    text, limits = PROGRAMS[name]
    image = assemble(ISA, text, name)
    verifier = Verifier(ISA, limits)
    assert checked(verifier, image) is None
    for bit in range(0, 64 * len(image.words), 11):
        words = image.words.copy()
        words[bit // 64] ^= np.uint64(1 << bit % 64)
        mutant = replace(image, words=words)
        assert checked(verifier, mutant) == error_of(mutant, limits)
    assert verifier.by_form > 10


def test_signals_are_counted_over_all_iterations() -> None:
    """More waits than signals are found where only a trip count is different, which the walk does not see."""
    verifier = Verifier(ISA, SPLIT)
    text = PIPELINE
    assert checked(verifier, assemble(ISA, text)) is None
    longer = assemble(ISA, text.replace("full=9", "full=12"))
    uneven = assemble(ISA, text.replace("full=9", "full=12", 1))
    assert checked(verifier, longer) is None
    assert verifier.by_form == 1
    assert "m42 is waited for 12 times" in str(checked(verifier, uneven))
    assert checked(verifier, uneven) == error_of(uneven, SPLIT)


def test_trip_counts_are_told_apart_as_far_as_they_matter() -> None:
    """A wait in each iteration but the first, and one set: legal in two iterations; in three the second wait has no set."""
    verifier = Verifier(ISA, UNIFIED)
    text = change(ROWS, "if last(l2) wait m2", "if not_first(l2) wait m2")
    images = {
        trip: assemble(ISA, change(text, "szc size=s2 full=3", f"szc size=s2 full={trip}")) for trip in (2, 3, 9, 1)
    }
    assert checked(verifier, images[2]) is None
    for trip in (3, 9, 1):
        assert checked(verifier, images[trip]) == error_of(images[trip], UNIFIED) is not None


def test_loops_that_sizes_begin_to_follow_are_seen() -> None:
    verifier = Verifier(ISA, UNIFIED)
    closed = change(
        STRIDED, "loop_a=l0 loop_b=l1 full=4 base=44 step_a=-4 step_b=-1", "loop_a=l0 loop_b=l5 full=4 base=4 step_a=0"
    )
    image, other = assemble(ISA, closed), assemble(ISA, closed.replace("base=4 step_a=0", "base=4 step_a=0 step_b=-1"))
    assert checked(verifier, image) is None
    assert "follows loop l5, which is not open" in str(checked(verifier, other))


def test_the_number_of_cores_is_no_matter_of_form() -> None:
    verifier = Verifier(ISA, UNIFIED)
    image = assemble(ISA, ELEMENTWISE)
    for cores in (1, 2, 3, 4):
        verifier.check(replace(image, entries=EvenEntries("unified", cores, (12,))))
    assert (verifier.images, verifier.by_form) == (4, 3)
    many = replace(image, entries=EvenEntries("unified", 5, (12,)))
    assert checked(verifier, many) == error_of(many, UNIFIED) is not None
    short = replace(image, entries=EvenEntries("unified", 2, ()))
    assert checked(verifier, short) == error_of(short, UNIFIED) is not None


def test_trip_counts_that_follow_counters_are_verified_one_by_one() -> None:
    verifier = Verifier(ISA, UNIFIED)
    image = assemble(ISA, CAUSAL)
    other = assemble(ISA, change(CAUSAL, "szc size=s3 full=16", "szc size=s3 full=8"))
    wrong = assemble(ISA, change(CAUSAL, "szc size=s3 full=16", "szc size=s3 full=17"))
    assert checked(verifier, image) is checked(verifier, other) is None
    assert checked(verifier, wrong) == error_of(wrong, UNIFIED) is not None
    assert (verifier.images, verifier.by_form) == (3, 0)


def test_what_has_passed_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_MOST_IMAGES", 2)
    monkeypatch.setattr(known, "_MOST_TEMPLATES", 1)
    verifier = Verifier(ISA, UNIFIED)
    first, second = assemble(ISA, ELEMENTWISE), assemble(ISA, PRODUCT)
    for image in (first, first, replace(first, name="other"), second, second):
        verifier.check(image)
    assert verifier.images == 2
    verifier.check(replace(first, n_args=3))  # of the templates one is kept, of the images two
    verifier.check(first)
    assert (verifier.images, verifier.by_form) == (4, 0)


def test_an_image_that_is_refused_is_refused_again() -> None:
    verifier = Verifier(ISA, UNIFIED)
    bad = assemble(ISA, change(ELEMENTWISE, "wait m2 set m3", "set m3"))
    assert checked(verifier, bad) == checked(verifier, bad) == error_of(bad, UNIFIED) is not None
    assert verifier.images == 2
    for strange in (replace(bad, entries=()), replace(bad, words=bad.words[:-2]), replace(bad, isa_hash="0" * 64)):
        assert checked(verifier, strange) == error_of(strange, UNIFIED) is not None


@pytest.mark.parametrize("name", [name for name, (text, _) in PROGRAMS.items() if "desc" in text])
def test_bounds_hold_all_that_operands_reach(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the static checks calculate for each operand lies within what the formulas give."""
    text, limits = PROGRAMS[name]
    image = assemble(ISA, text, name)
    form = Verification(ISA, image, limits, Findings(ISA, name, collect=False), MAX_STEPS)
    form.statics(None, absolute=False)
    template = Template(ISA, limits, image, form, MAX_STEPS)
    found: list[tuple[int, str, Reach]] = []

    def noted(_: StaticChecks, leaf: Leaf, operand: str, _desc: object, _ring: object, reach: Reach) -> None:
        found.append((leaf.pc, operand.split("=")[0], reach))

    monkeypatch.setattr(StaticChecks, "_bounds", noted)
    compared = 0
    for mutant in value_mutants(ISA, image, Random(name), 200):
        assert Forms(ISA).of(mutant.words) == Forms(ISA).of(image.words)
        bounds = template._formulas.reaches(template._values.read(mutant, RelocTable.of(mutant.relocs)))
        if bounds is None:
            continue
        found.clear()
        with contextlib.suppress(Abandon):
            Verification(ISA, mutant, limits, Findings(ISA, name, collect=True), MAX_STEPS).statics(
                None, absolute=False
            )
        for pc, operand, reach in found:
            for program in template._programs.values():
                site = program.sites.sites.get((pc, operand))
                if site is not None:
                    at = site.formula + program.offset
                    assert bounds.low[at] <= reach.low
                    assert reach.high <= bounds.high[at]
                    compared += 1
    assert compared > 100


def seen_by_a_program(tiles: list[dict[int, tuple[int, int]]], seen: int) -> tuple[object, ...]:
    flags = [tuple((c == 0, c == trip - 1) for loop, (c, trip) in t.items() if seen >> loop & 1) for t in tiles]
    return flags, [changed_loops(one, other) for one, other in itertools.pairwise(tiles)]


@pytest.mark.parametrize("seen", [0, 1, 2, 0b101, 0b1111])
def test_a_class_looks_as_its_ranges_do(seen: int) -> None:
    source = Random(seen)
    empty = Tables({}, {}, {}, {})
    for _ in range(400):
        levels = source.randrange(1, 5)
        trips = [source.choice((1, 1, 2, 3, 4, 5, source.randrange(1, 10**4))) for _ in range(levels)]
        total = int(np.prod(trips))
        starts = [source.randrange(total) for _ in range(4)]
        stops = [min(total, start + source.choice((0, 1, 2, 3, source.randrange(1, total + 1)))) for start in starts]
        for start, stop, code in zip(
            starts, stops, range_classes(trips, np.array([starts, stops]).T).tolist(), strict=True
        ):
            real = grid_tiles(empty, [Const(trip) for trip in trips], start, stop, ())
            assert seen_by_a_program(list(class_tiles(code, levels)), 0b1111) == seen_by_a_program(real, 0b1111)
            like = class_tiles(alike(code, levels, seen), levels)
            assert seen_by_a_program(list(like), seen) == seen_by_a_program(real, seen)


@pytest.mark.parametrize("tiles", [(12,), (5, 0, 9), (1,), (), (3, 3, 100)])
@pytest.mark.parametrize("cores", [1, 4, 7])
def test_columns_of_even_entries(tiles: tuple[int, ...], cores: int) -> None:
    for steps in (1, 3, 1 << 60):
        table = EvenEntries("unified", cores, tiles, steps)
        if sum(tiles) * steps < 1 << 62:
            one, other = table.columns(), EntryColumns.of(list(table))
            assert (one.types, one.pcs, one.phases) == (other.types, other.pcs, other.phases)
            np.testing.assert_array_equal(one.ranges, other.ranges)
            assert one.ranges.shape == (cores, len(tiles), 2)
