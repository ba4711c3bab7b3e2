"""What a decoder is shown in a test: instructions of every kind, systematically and at random, as arrays of words.

Nothing here says what a decoder must answer: that is `npuvm.isa.decode_at`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npuvm.isa.codec import encode
from npuvm.isa.model import Insn, Instruction, Isa, OperandSpec, Pred

__all__ = [
    "WORDS",
    "Vectors",
    "bit_flips",
    "head_vectors",
    "join",
    "legal_insns",
    "random_insns",
    "random_vectors",
    "vectors_of",
]

WORDS = 8
"""Words that a decoder sees at once: a head and up to seven operand words."""

_U64 = np.uint64
_Words = npt.NDArray[np.uint64]
_Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Vectors:
    """`words` (n, 8) with the head in column 0; `avail` (n,) uint8: how many of them are there, 8 meaning 8 or more."""

    words: _Words
    avail: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.avail)

    def program(self, index: int) -> list[int]:
        """The words of one vector that are there."""
        found: list[int] = self.words[index, : self.avail[index]].tolist()
        return found

    def chunks(self, size: int) -> Iterator[Vectors]:
        """The same vectors in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield Vectors(self.words[start : start + size], self.avail[start : start + size])


def vectors_of(programs: Sequence[Sequence[int]]) -> Vectors:
    """One vector per program: its first eight words; words past its end are zero."""
    words = np.zeros((len(programs), WORDS), _U64)
    avail = np.zeros(len(programs), np.uint8)
    for row, program in enumerate(programs):
        there = program[:WORDS]
        words[row, : len(there)] = there
        avail[row] = len(there)
    return Vectors(words, avail)


def join(parts: Sequence[Vectors]) -> Vectors:
    """All vectors of all parts, in order."""
    return Vectors(np.concatenate([p.words for p in parts]), np.concatenate([p.avail for p in parts]))


def legal_insns(isa: Isa) -> list[Insn]:
    """Every instruction that is on, with each data type pair, each predicate and each field at its bounds, one at a time."""
    return [insn for spec in _on(isa) for insn in _variants(isa, spec)]


def bit_flips(isa: Isa, insns: Sequence[Insn]) -> Vectors:
    """Each of these instructions with each bit of its words flipped, one at a time."""
    rows: list[list[int]] = []
    for insn in insns:
        words = encode(isa, insn)
        for index in range(len(words)):
            rows += [[*words[:index], words[index] ^ 1 << bit, *words[index + 1 :]] for bit in range(64)]
    return vectors_of(rows)


def head_vectors(isa: Isa, seed: int) -> Vectors:
    """Every opcode with every length and every number of words there; the other bits are zero and random in turn."""
    opcode, length = isa.head["opcode"], isa.head["length"]
    grid = np.meshgrid(np.arange(1 << opcode.width), np.arange(1 << length.width), np.arange(WORDS + 1), indexing="ij")
    opcodes, lengths, avail = (axis.ravel() for axis in grid)
    words = _uniform(np.random.default_rng(seed), len(avail))
    words[::2] = 0
    words[:, 0] &= ~_U64(opcode.mask | length.mask)
    words[:, 0] |= opcodes.astype(_U64) << _U64(opcode.low) | lengths.astype(_U64) << _U64(length.low)
    return Vectors(words, avail.astype(np.uint8))


def random_insns(isa: Isa, rng: np.random.Generator, count: int) -> tuple[_Words, npt.NDArray[np.uint8]]:
    """Words (count, 8) of random legal instructions with random words behind them, and their lengths in words."""
    specs = _on(isa)
    choice = rng.integers(len(specs), size=count)
    words = _uniform(rng, count)
    lengths = np.zeros(count, np.uint8)
    for index, spec in enumerate(specs):
        rows = np.flatnonzero(choice == index)
        lengths[rows] = spec.words + 1
        words[rows, : spec.words + 1] = 0
        words[rows, 0] = spec.opcode << isa.head["opcode"].low | spec.words << isa.head["length"].low
        _random_head(isa, spec, rng, words, rows)
        for operand in spec.operands:
            values = _random_values(operand, rng, len(rows))
            mask = _U64((1 << operand.bits.width) - 1)
            words[rows, operand.bits.word] |= (values.astype(_U64) & mask) << _U64(operand.bits.low)
    return words, lengths


def random_vectors(isa: Isa, count: int, seed: int) -> Vectors:
    """`count` random vectors, a fifth each: uniform words; an allocated opcode and random bits (in half of them the reserved
    bits are clear); legal instructions; the same with one to three bits flipped; the same cut short.
    """
    rng = np.random.default_rng(seed)
    sizes = [count - 4 * (count // 5), *[count // 5] * 4]
    uniform = Vectors(_uniform(rng, sizes[0]), rng.integers(0, WORDS + 1, sizes[0], dtype=np.uint8))
    legal, _ = random_insns(isa, rng, sizes[2])
    flipped, lengths = random_insns(isa, rng, sizes[3])
    for share in (1, 2, 2):  # the first bit in every row, two more in every second one
        rows = np.flatnonzero(rng.integers(share, size=sizes[3]) == 0)
        bits = rng.integers(0, 64 * lengths[rows].astype(np.int64))
        flipped[rows, bits // 64] ^= _U64(1) << (bits % 64).astype(_U64)
    short, lengths = random_insns(isa, rng, sizes[4])
    full = np.full(count // 5, WORDS, np.uint8)
    return join(
        [
            uniform,
            _allocated(isa, rng, sizes[1]),
            Vectors(legal, full),
            Vectors(flipped, full),
            Vectors(short, rng.integers(0, lengths, dtype=np.uint8)),
        ]
    )


def _on(isa: Isa) -> list[Instruction]:
    return [spec for spec in isa.instructions.values() if isa.features[spec.feature]]


def _uniform(rng: np.random.Generator, count: int) -> _Words:
    return rng.integers(0, 1 << 64, (count, WORDS), dtype=_U64)


def _allocated(isa: Isa, rng: np.random.Generator, count: int) -> Vectors:
    """Random words under every allocated opcode, features that are off included."""
    specs = list(isa.by_opcode.values())
    choice = rng.integers(len(specs), size=count)
    clear = rng.integers(2, size=count).astype(bool)
    words = _uniform(rng, count)
    fixed = _U64(isa.head["opcode"].mask | isa.head["length"].mask)
    for index, spec in enumerate(specs):
        rows = np.flatnonzero(choice == index)
        head = _U64(spec.opcode << isa.head["opcode"].low | spec.words << isa.head["length"].low)
        words[rows, 0] = words[rows, 0] & ~fixed | head
        rows = rows[clear[rows]]
        for word, reserved in enumerate(spec.reserved):
            words[rows, word] &= ~_U64(reserved)
    return Vectors(words, np.full(count, WORDS, np.uint8))


def _variants(isa: Isa, spec: Instruction) -> Iterator[Insn]:
    least = {o.name: min(o.values.values()) if o.values else o.low for o in spec.operands}
    types = spec.dtypes or ((None, None),)
    for dtype, dtype2 in types:
        yield Insn(spec.name, dtype, dtype2, least)
    dtype, dtype2 = types[-1]
    for operand in spec.operands:
        for value in _interesting(operand):
            yield Insn(spec.name, dtype, dtype2, least | {operand.name: value})
    yield Insn(spec.name, dtype, dtype2, least | {o.name: _interesting(o)[-1] for o in spec.operands})
    last = isa.limits["semaphores"] - 1
    for numbers in ((0,), (last,), (0, last), (last, 0), (last, last), (1, 2)):
        yield Insn(spec.name, dtype, dtype2, least, wait=numbers)
        yield Insn(spec.name, dtype, dtype2, least, set=numbers)
    for kind in isa.predicates:
        if kind != "always":
            for mask in (0, 1, 1 << isa.limits["loops"] - 1, (1 << isa.limits["loops"]) - 1):
                yield Insn(spec.name, dtype, dtype2, least, pred=Pred(kind, mask))
    yield Insn(spec.name, dtype, dtype2, least, order=True)


def _interesting(operand: OperandSpec) -> list[int]:
    """The bounds, their neighbours, zero, and each single bit that is in range; the largest is last."""
    if operand.values:
        return sorted(operand.values.values())
    low, high = operand.low, operand.high
    bits = [1 << bit for bit in range(operand.bits.width)]
    values = {low, low + 1, -1, 0, 1, high - 1, high, *bits, *(-bit for bit in bits)}
    return sorted(value for value in values if low <= value <= high)


def _random_values(operand: OperandSpec, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Half uniform in range, half of the interesting ones."""
    edges = np.array(_interesting(operand), np.int64)
    chosen = rng.choice(edges, count)
    if operand.values:
        return chosen
    return np.where(rng.integers(2, size=count), chosen, rng.integers(operand.low, operand.high, count, endpoint=True))


def _random_head(isa: Isa, spec: Instruction, rng: np.random.Generator, words: _Words, rows: _Rows) -> None:
    """Types, waits, sets, predicate and order of the instructions in these rows."""
    count = len(rows)
    head = rng.integers(2, size=count).astype(_U64) << _U64(isa.head["order"].low)
    for kind in ("wait", "set"):
        first, second = (rng.integers(isa.limits["semaphores"] + 1, size=count).astype(_U64) for _ in range(2))
        second[first == 0] = 0
        head |= first << _U64(isa.head[f"{kind}0"].low) | second << _U64(isa.head[f"{kind}1"].low)
    pred = rng.choice(np.array(list(isa.predicates.values()), _U64), count)
    mask = rng.integers(1 << isa.limits["loops"], size=count).astype(_U64)
    mask[pred == isa.predicates["always"]] = 0
    head |= pred << _U64(isa.head["pred"].low) | mask << _U64(isa.head["mask"].low)
    if spec.dtypes:
        pairs = [_type_bits(isa, spec, first, second) for first, second in spec.dtypes]
        head |= rng.choice(np.array(pairs, _U64), count)
    words[rows, 0] |= head


def _type_bits(isa: Isa, spec: Instruction, first: str, second: str | None) -> int:
    bits = isa.dtypes[first].code << isa.head["dtype"].low
    if second is not None and spec.dtype2_bits is not None:
        bits |= isa.dtypes[second].code << spec.dtype2_bits.low
    return bits
