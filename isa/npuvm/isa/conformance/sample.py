"""Random legal instructions of a layout, and random words, both from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npuvm.isa.conformance.layout import Entry, Field, Layout
from npuvm.isa.model import Insn, Pred

__all__ = ["RandomProgram", "random_insn", "random_programs"]

PROGRAM_WORDS = 8
"""Words of a random program: the longest instruction."""

_Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class RandomProgram:
    """Words to decode from the first on, and how they were made: a name of `bins.RANDOM_KINDS`."""

    kind: str
    words: list[int]


def random_insn(layout: Layout, entry: Entry, rng: random.Random) -> Insn:
    """A legal instruction with every operand given."""
    args = {field.name: _value(field, rng) for field in entry.operands}
    dtype, dtype2 = rng.choice(list(entry.pairs.values())) if entry.pairs else (None, None)
    waits, sets = (tuple(rng.sample(range(layout.semaphores), rng.randrange(3))) for _ in range(2))
    kind = rng.choice(list(layout.predicates))
    pred = None if kind == "always" else Pred(kind, rng.randrange(1 << layout.loops))
    return Insn(entry.name, dtype, dtype2, args, waits, sets, pred, order=rng.random() < 0.5)


def random_programs(layout: Layout, seed: int, count: int) -> Iterator[RandomProgram]:
    """`count` programs, a quarter of each kind, the same for the same seed; followed by random words but for the cut ones."""
    rng = np.random.default_rng(seed)
    kinds = {"uniform": _uniform, "allocated": _allocated, "flipped": _flipped}
    share = count // (len(kinds) + 1)
    for kind, make in kinds.items():
        yield from (RandomProgram(kind, words) for words in make(layout, rng, share).tolist())
    cut = count - len(kinds) * share
    rows, lengths = _legal(layout, rng, cut)
    keep = 1 + (rng.random(cut) * np.minimum(lengths, PROGRAM_WORDS - 1)).astype(np.int64)
    for words, kept in zip(rows.tolist(), keep.tolist(), strict=True):
        yield RandomProgram("truncated", words[:kept])


def _value(field: Field, rng: random.Random) -> int:
    return rng.choice(field.values)[1] if field.values else rng.randint(field.low, field.high)


def _uniform(_layout: Layout, rng: np.random.Generator, count: int) -> _Words:
    return rng.integers(0, 1 << 64, (count, PROGRAM_WORDS), dtype=np.uint64)


def _allocated(layout: Layout, rng: np.random.Generator, count: int) -> _Words:
    """A known opcode with its length in seven of eight; in half of them the reserved bits cleared, so that fields show."""
    rows = _uniform(layout, rng, count)
    entries = list(layout.entries.values())
    head, length = layout.head["opcode"], layout.head["length"]
    which = rng.integers(0, len(entries), count)
    fixed = np.array([head.put(entry.opcode) | length.put(entry.words) for entry in entries], dtype=np.uint64)
    keep_length = rng.integers(0, 8, count) == 0
    cleared = np.where(keep_length, _not(head.put(-1)), _not(head.put(-1) | length.put(-1)))
    filled = np.where(keep_length, fixed[which] & np.uint64(head.put(-1)), fixed[which])
    rows[:, 0] = rows[:, 0] & cleared | filled
    reserved = np.array([[*e.reserved, *[0] * (PROGRAM_WORDS - len(e.reserved))] for e in entries], dtype=np.uint64)
    clean = rng.integers(0, 2, count, dtype=np.uint64)[:, None] * ~np.uint64(0)
    return rows & ~(reserved[which] & clean)


def _flipped(layout: Layout, rng: np.random.Generator, count: int) -> _Words:
    """Legal instructions with one to three of their bits changed."""
    rows, lengths = _legal(layout, rng, count)
    flips = rng.integers(1, 4, count)
    for turn in range(3):
        bit = (rng.random(count) * lengths * 64).astype(np.int64)
        hit = np.nonzero(flips > turn)[0]
        rows[hit, bit[hit] // 64] ^= np.uint64(1) << (bit[hit] % 64).astype(np.uint64)
    return rows


def _legal(layout: Layout, rng: np.random.Generator, count: int) -> tuple[_Words, npt.NDArray[np.int64]]:
    """Legal instructions with all fields at random, and their lengths in words, head included."""
    entries = layout.on()
    which = rng.integers(0, len(entries), count)
    rows = _uniform(layout, rng, count)
    for index, entry in enumerate(entries):
        mine = np.nonzero(which == index)[0]
        rows[mine, : entry.words + 1] = _legal_of(layout, entry, rng, len(mine))
    return rows, np.array([entry.words + 1 for entry in entries])[which]


def _legal_of(layout: Layout, entry: Entry, rng: np.random.Generator, count: int) -> _Words:
    rows = np.zeros((count, entry.words + 1), dtype=np.uint64)
    rows[:, 0] = layout.head["opcode"].put(entry.opcode) | layout.head["length"].put(entry.words)
    for field in entry.operands:
        codes = [code for _, code in field.values]
        drawn = rng.choice(codes, count) if codes else rng.integers(field.low, field.high, count, endpoint=True)
        _put(rows, field, drawn)
    if entry.pairs:
        pairs = np.array(list(entry.pairs))[rng.integers(0, len(entry.pairs), count)]
        _put(rows, layout.head["dtype"], pairs[:, 0])
        if entry.dtype2:
            _put(rows, entry.dtype2, pairs[:, 1])
    for kind in ("wait", "set"):
        first = rng.integers(0, layout.semaphores, count, endpoint=True)
        second = rng.integers(0, layout.semaphores, count, endpoint=True)
        _put(rows, layout.head[f"{kind}0"], first)
        _put(rows, layout.head[f"{kind}1"], np.where(first > 0, second, 0))
    codes = list(layout.predicates.values())
    pred = rng.choice(codes, count)
    mask = rng.integers(0, 1 << layout.loops, count)
    _put(rows, layout.head["pred"], pred)
    _put(rows, layout.head["mask"], np.where(pred == layout.predicates["always"], 0, mask))
    _put(rows, layout.head["order"], rng.integers(0, 2, count))
    return rows


def _put(rows: _Words, field: Field, values: Sequence[int] | npt.NDArray[np.int64]) -> None:
    """Write values into a field that is still zero in all rows."""
    bits = np.asarray(values, dtype=np.int64).view(np.uint64) & np.uint64((1 << field.width) - 1)
    rows[:, field.word] |= bits << np.uint64(field.at)


def _not(mask: int) -> np.uint64:
    return ~np.uint64(mask)
