"""Addresses of on-chip buffers: pinned ones first, then first fit in the order they were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.handles import Buffer
from npuvm.compiler.emit.symint import SymInt
from npuvm.compiler.errors import CompileError

__all__ = ["place"]


def place(buffers: Sequence[Buffer], capacities: Mapping[str, int], where: str) -> dict[Buffer, int]:
    """Byte address of every buffer; CompileError naming the buffer, what it needs and what there is."""
    if any(isinstance(buffer.nbytes, SymInt) for buffer in buffers):
        return _one_after_another(buffers)
    result: dict[Buffer, int] = {}
    taken: dict[str, list[tuple[int, int, Buffer]]] = {}
    for buffer in buffers:
        capacity = capacities.get(buffer.space, 0)
        if buffer.nbytes > capacity:
            raise CompileError(
                f"buffer '{buffer.name}' needs {buffer.nbytes} bytes ({buffer.slots} x {buffer.slot_bytes}) "
                f"of {buffer.space}, which has {capacity}",
                where,
            )
        if buffer.address is not None:
            _check_pinned(buffer, buffer.address, capacity, taken.get(buffer.space, ()), where)
            result[buffer] = buffer.address
            if not buffer.overlap:
                taken.setdefault(buffer.space, []).append((buffer.address, buffer.address + buffer.nbytes, buffer))
    for intervals in taken.values():
        intervals.sort(key=lambda interval: interval[0])
    for buffer in buffers:
        if buffer.address is None:
            intervals = taken.setdefault(buffer.space, [])
            result[buffer] = _first_fit(buffer, intervals, capacities[buffer.space], where)
    return result


def _one_after_another(buffers: Sequence[Buffer]) -> dict[Buffer, int]:
    """Where first fit puts buffers of sizes that are not known yet; that they fit is for the choice of sizes to see to."""
    ends: dict[str, int] = {}
    result: dict[Buffer, int] = {}
    for buffer in buffers:
        start = ends.get(buffer.space, 0) if buffer.address is None else buffer.address
        result[buffer] = start
        ends[buffer.space] = align_up(start + buffer.nbytes, buffer.align)
    return result


def _check_pinned(
    buffer: Buffer, address: int, capacity: int, taken: Sequence[tuple[int, int, Buffer]], where: str
) -> None:
    end = address + buffer.nbytes
    if address % buffer.align or address < 0:
        raise CompileError(f"address {address} of buffer '{buffer.name}' must be a multiple of {buffer.align}", where)
    if end > capacity:
        raise CompileError(
            f"buffer '{buffer.name}' at {address} needs {buffer.nbytes} bytes and ends at {end}, past the {capacity} "
            f"of {buffer.space}",
            where,
        )
    for start, stop, other in taken:
        if not buffer.overlap and start < end and address < stop:
            raise CompileError(
                f"buffer '{buffer.name}' at {address}..{end} overlaps '{other.name}' at {start}..{stop} "
                f"of {buffer.space}",
                where,
            )


def _first_fit(buffer: Buffer, intervals: list[tuple[int, int, Buffer]], capacity: int, where: str) -> int:
    address = 0
    at = 0
    for at, (start, stop, _) in enumerate(intervals):  # noqa: B007 - the place to insert is used after the loop
        if address + buffer.nbytes <= start:
            break
        address = max(address, align_up(stop, buffer.align))
    else:
        at = len(intervals)
    if address + buffer.nbytes > capacity:
        used = sum(stop - start for start, stop, _ in intervals)
        raise CompileError(
            f"buffer '{buffer.name}' needs {buffer.nbytes} bytes ({buffer.slots} x {buffer.slot_bytes}) of {buffer.space}; "
            f"{used} of {capacity} are taken by {', '.join(other.name for *_, other in intervals)}",
            where,
        )
    intervals.insert(at, (address, address + buffer.nbytes, buffer))
    return address
