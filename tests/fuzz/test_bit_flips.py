"""One bit of a real image is wrong: it is refused, traps cleanly, or runs within its own memory."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterable

import pytest
from tests.fuzz.guarded import Launchable, launches, outcome_of_bytes

from npuvm.isa import Image, IsaError

NAMES = ("chain", "softmax", "product")
SAMPLE_STEP = 73
"""Every how manieth bit `make test` runs; a prime, so that over the words every bit position comes up."""


def with_bit_flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def sealed(body: bytes) -> bytes:
    """The body of an image with the checksum that belongs to it."""
    return body + struct.pack("<I", zlib.crc32(body))


def outcomes(launch: Launchable, bits: Iterable[int]) -> Counter[str]:
    """How the launches end with each of the bits flipped and the checksum repaired."""
    body = launch.image.to_bytes()[:-4]
    counts: Counter[str] = Counter()
    for bit in bits:
        try:
            counts[outcome_of_bytes(sealed(with_bit_flipped(body, bit)), launch)] += 1
        except Exception as exc:
            place = f"bit {bit} of {launch.name}, {8 * len(body) - bit} bits before the end of the words"
            raise AssertionError(f"{place}: {exc!r}") from exc
    return counts


@pytest.mark.parametrize("name", NAMES)
def test_the_checksum_finds_every_flipped_bit(name: str) -> None:
    data = launches()[name].image.to_bytes()
    for bit in range(8 * len(data)):
        with pytest.raises(IsaError):
            Image.from_bytes(with_bit_flipped(data, bit))


@pytest.mark.parametrize("name", NAMES)
def test_the_images_themselves_run(name: str) -> None:
    launch = launches()[name]
    assert outcome_of_bytes(launch.image.to_bytes(), launch) == "ran"


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_of_flipped_bits(name: str) -> None:
    launch = launches()[name]
    counts = outcomes(launch, range(0, 8 * (len(launch.image.to_bytes()) - 4), SAMPLE_STEP))
    assert any(key.startswith("refused") for key in counts)


@pytest.mark.campaign
@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit(name: str) -> None:
    launch = launches()[name]
    bits = range(8 * (len(launch.image.to_bytes()) - 4))
    counts = outcomes(launch, bits)
    assert counts.total() == len(bits)
    assert {"ran", "refused by the loader", "refused hash", "refused decode"} <= set(counts)
