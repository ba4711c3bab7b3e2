"""Input that once did what it must not, each with what it does now."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from tests.fuzz.guarded import the_isa

from npuvm.isa import AsmError, Entry, Image, IsaError, assemble

IMAGE = Image("finding", the_isa().hash, np.array([2], dtype=np.uint64), (Entry("unified", 0, ((0, 1),)),))


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003", "\u2028"])
def test_other_white_space_in_assembly(space: str) -> None:
    """Only blanks and tabs stand between words; the error used to be an IndexError where such a character was alone."""
    with pytest.raises(AsmError, match=r"^<asm>:1:5: expected") as caught:
        assemble(the_isa(), f"nop {space}")
    assert repr(space) in caught.value.message


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000, "-" + "1" * 5000, "0b" + "1" * 20000])
@pytest.mark.parametrize(
    "line", ["szc size=s0 full={}", ".args {}", ".word {}", "szc size=s{} full=1", "nop | wait m{}"]
)
def test_numbers_of_thousands_of_digits(line: str, digits: str) -> None:
    """Python reads and prints no decimal of more than 4300 digits, which used to be a ValueError."""
    with pytest.raises(AsmError, match=r"^<asm>:1:[0-9]+: "):
        assemble(the_isa(), line.format(digits))


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (8 + 32 + 5 * 4, "the header's reserved field is 0x1; allowed: 0"),
        (8 + 32 + 6 * 4 + len("finding") + 1, "the reserved bytes of an entry are 010000; allowed: 000000"),
        (8 + 32 + 6 * 4 + len("finding") + 3, "the reserved bytes of an entry are 000001; allowed: 000000"),
    ],
)
def test_reserved_bytes_of_an_image(at: int, message: str) -> None:
    """They were not looked at, so that two different files were the same image."""
    body = bytearray(IMAGE.to_bytes()[:-4])
    assert body[at] == 0
    body[at] = 1
    with pytest.raises(IsaError, match=message):
        Image.from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))
