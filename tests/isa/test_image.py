"""Program images: bytes and back, relocation, damage."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.strategies import images

from npuvm.isa import Entry, Image, IsaError, Reloc, load_isa

ISA = load_isa()

IMAGE = Image(
    "softmax",
    ISA.hash,
    np.array([0x0C, 0xABCD_0000_0000_0010, (1 << 64) - 1], dtype=np.uint64),
    (Entry("cube", 0, ((0, 5),)), Entry("vector", 2, ((5, 1 << 40), (0, 0)))),
    (Reloc(1, 0, -8), Reloc(2, 1, 16)),
    2,
)


@given(images(ISA))
def test_bytes_and_back(image: Image) -> None:
    data = image.to_bytes()
    again = Image.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.name, again.isa_hash, again.entries, again.relocs, again.n_args) == (
        image.name,
        image.isa_hash,
        image.entries,
        image.relocs,
        image.n_args,
    )
    assert again.words.tolist() == image.words.tolist()


@given(images(ISA), st.data())
def test_any_damage_is_refused(image: Image, data: st.DataObject) -> None:
    whole = bytearray(image.to_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IsaError):
        Image.from_bytes(bytes(whole), "k.bin")


def test_every_flipped_byte_and_every_cut_is_refused() -> None:
    data = IMAGE.to_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        with pytest.raises(IsaError, match=r"^k\.bin: "):
            Image.from_bytes(bytes(changed), "k.bin")
        with pytest.raises(IsaError):
            Image.from_bytes(data[:at])
    with pytest.raises(IsaError, match="checksum"):
        Image.from_bytes(data + b"\0")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_image(data: bytes) -> None:
    with pytest.raises(IsaError, match="not a program image"):
        Image.from_bytes(data)


@given(st.integers(0, 15), st.integers(0, (1 << 32) - 1))
def test_lies_with_a_right_checksum_are_refused(field: int, value: int) -> None:
    """A header whose counts do not fit the rest never ends in anything but an image or IsaError."""
    body = bytearray(IMAGE.to_bytes()[:-4])
    body[40 + field % 6 * 4 : 44 + field % 6 * 4] = struct.pack("<I", value)
    data = bytes(body) + struct.pack("<I", zlib.crc32(body))
    try:
        image = Image.from_bytes(data)
    except IsaError as exc:
        assert "damaged" in exc.message
    else:
        assert isinstance(image.name, str)


def test_relocation() -> None:
    words = IMAGE.relocate([0x1000, 0x2000])
    assert words.tolist() == [0x0C, 0xABCD_0000_0000_0FF8, 0xFFFF_0000_0000_2010]
    assert IMAGE.words[1] == 0xABCD_0000_0000_0010


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ([0x1000], "1 addresses given, the image takes 2"),
        ([0, 0x2000], "address -0x8 of argument 0 does not fit 48 bits"),
        ([0x1000, (1 << 48) - 16], "address 0x1000000000000 of argument 1 does not fit 48 bits"),
    ],
)
def test_addresses_that_do_not_fit(addresses: list[int], message: str) -> None:
    with pytest.raises(IsaError, match=rf"^softmax: {message}"):
        IMAGE.relocate(addresses)
