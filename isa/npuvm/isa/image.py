"""Program images: encoded instructions, one entry per core, relocations. The unit that is cached, verified, launched."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from npuvm.isa.errors import IsaError
from npuvm.isa.image_tables import ADDRESS_BITS, Entry, EvenEntries, Reloc, RelocTable
from npuvm.isa.records import quick_record

__all__ = ["ADDRESS_BITS", "CORE_TYPES", "Entry", "EvenEntries", "Image", "Reloc", "RelocTable"]

CORE_TYPES = ("unified", "cube", "vector")
_MAGIC = b"NPUVM\x00\x01\x00"
_HEADER = struct.Struct("<8s32sIIIIII")
_ENTRY = struct.Struct("<B3sII")
_RESERVED = bytes(3)
_RANGE = struct.Struct("<QQ")
_RELOC = struct.Struct("<IIq")


@quick_record
@dataclass(frozen=True, slots=True)
class Image:
    """An encoded kernel for a fixed shape. `words` is uint64; `isa_hash` must equal that of the simulator that runs it.

    `grids` are the words at which `grid` instructions begin, where whoever made the image noted them: who links images
    need not look for them then. It is no part of the stored form.
    """

    name: str
    isa_hash: str
    words: npt.NDArray[np.uint64]
    entries: Sequence[Entry]
    relocs: Sequence[Reloc] = ()
    n_args: int = 0
    grids: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

    def relocate(self, addresses: Sequence[int]) -> npt.NDArray[np.uint64]:
        """A copy of the words with every relocation applied; IsaError when an address does not fit 48 bits."""
        if len(addresses) != self.n_args:
            raise IsaError(f"{len(addresses)} addresses given, the image takes {self.n_args}", self.name)
        words = self.words.copy()
        RelocTable.of(self.relocs).apply(words, addresses, self.name)
        return words

    def to_bytes(self) -> bytes:
        """Serialise: header, name, entries, relocations, words, CRC-32 of all before it; little endian."""
        name = self.name.encode()
        parts = [
            _HEADER.pack(
                _MAGIC,
                bytes.fromhex(self.isa_hash),
                len(name),
                len(self.entries),
                len(self.relocs),
                len(self.words),
                self.n_args,
                0,
            ),
            name,
        ]
        for entry in self.entries:
            parts.append(_ENTRY.pack(CORE_TYPES.index(entry.core_type), _RESERVED, entry.pc, len(entry.ranges)))
            parts += [_RANGE.pack(*pair) for pair in entry.ranges]
        parts += [_RELOC.pack(r.word, r.arg, r.addend) for r in self.relocs]
        parts.append(self.words.astype("<u8").tobytes())
        body = b"".join(parts)
        return body + struct.pack("<I", zlib.crc32(body))

    @staticmethod
    def from_bytes(data: bytes, where: str = "image") -> Image:
        """Parse what `to_bytes` wrote; IsaError when it is no image, cut short, or damaged."""
        if len(data) < _HEADER.size + 4 or data[:8] != _MAGIC:
            raise IsaError("not a program image (wrong magic)", where)
        if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise IsaError("damaged: the checksum does not match", where)
        try:
            return _parse(data[:-4])
        except (struct.error, UnicodeDecodeError, IndexError, ValueError) as exc:
            raise IsaError(f"damaged: {exc}", where) from None


def _parse(data: bytes) -> Image:
    _, digest, name_len, n_entries, n_relocs, n_words, n_args, reserved = _HEADER.unpack_from(data)
    if reserved:
        raise ValueError(f"the header's reserved field is {reserved:#x}; allowed: 0")
    at = _HEADER.size
    name = data[at : at + name_len].decode()
    at += name_len
    entries = []
    for _ in range(n_entries):
        core, padding, pc, n_ranges = _ENTRY.unpack_from(data, at)
        if padding != _RESERVED:
            raise ValueError(f"the reserved bytes of an entry are {padding.hex()}; allowed: {_RESERVED.hex()}")
        if core >= len(CORE_TYPES):
            raise ValueError(f"core type {core}; allowed: 0 to {len(CORE_TYPES) - 1}")
        at += _ENTRY.size
        ranges = tuple(_RANGE.unpack_from(data, at + i * _RANGE.size) for i in range(n_ranges))
        at += n_ranges * _RANGE.size
        entries.append(Entry(CORE_TYPES[core], pc, tuple((a, b) for a, b in ranges)))
    relocs = []
    for i in range(n_relocs):
        relocs.append(Reloc(*_RELOC.unpack_from(data, at + i * _RELOC.size)))
    at += n_relocs * _RELOC.size
    words = np.frombuffer(data, dtype="<u8", offset=at).astype(np.uint64)
    if len(words) != n_words:
        raise ValueError(f"{len(words)} words, the header says {n_words}")
    for reloc in relocs:
        if reloc.word >= n_words or reloc.arg >= n_args:
            raise ValueError(f"relocation of word {reloc.word}, argument {reloc.arg} is out of range")
    return Image(name, digest.hex(), words, tuple(entries), tuple(relocs), n_args)
