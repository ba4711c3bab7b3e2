"""What the host asks of a device, in the order of its calls: launches, transfers, and waiting for them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import DeviceError
from npuvm.hw.link import Direction, HostLink

__all__ = ["Operation", "OperationLog", "Ranges", "TransferTotals"]

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""(address, bytes) in device memory."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of the host. `us` is the simulated time for which a launch or a transfer occupies the chip or the link.

    `wait`: the host goes on when all of the stream is done, of all streams where `stream` is None. `resident`: the upload of
    what stays for later runs, as weights do. `tag` is what the caller names it. `reads` and `writes` are in device memory.
    """

    kind: Direction | Literal["launch", "wait"]
    stream: str | None
    us: float = 0.0
    nbytes: int = 0
    tag: str = ""
    resident: bool = False
    reads: Ranges = ()
    writes: Ranges = ()


@dataclass(frozen=True, slots=True)
class TransferTotals:
    """Transfers by direction: bytes, and simulated microseconds as if each were alone, the latency of each included.

    `resident` are uploads of what stays on the device; they are in neither direction's.
    """

    to_device_bytes: int = 0
    to_device_us: float = 0.0
    to_host_bytes: int = 0
    to_host_us: float = 0.0
    resident_bytes: int = 0
    resident_us: float = 0.0

    @staticmethod
    def of(chip: NpuConfig, operations: Iterable[Operation]) -> TransferTotals:
        """Those among the operations of a device with this chip."""
        latency_us = float(HostLink.of(chip).latency_us)
        nbytes: Counter[str] = Counter()
        spent: dict[str, float] = defaultdict(float)
        for each in operations:
            if each.kind in ("to_device", "to_host"):
                name = "resident" if each.resident else each.kind
                nbytes[name] += each.nbytes
                spent[name] += latency_us + each.us
        return TransferTotals(
            nbytes["to_device"],
            spent["to_device"],
            nbytes["to_host"],
            spent["to_host"],
            nbytes["resident"],
            spent["resident"],
        )


class OperationLog:
    """The operations of a device since it was made, or since the caller cleared `operations`."""

    def __init__(self, chip: NpuConfig) -> None:
        self.link = HostLink.of(chip)
        self.operations: list[Operation] = []
        self.stream = ""
        """The stream of what is logged."""

    @contextmanager
    def on_stream(self, name: str) -> Iterator[None]:
        """What is logged inside is on this stream; "" is the one that everything is on outside.

        DeviceError for what is no name.
        """
        given: object = name
        if not isinstance(given, str):
            raise DeviceError(f"stream {given!r} is of type {type(given).__name__}; allowed: a text that names it")
        before, self.stream = self.stream, name
        try:
            yield
        finally:
            self.stream = before

    def launch(self, us: float, tag: str, reads: Ranges, writes: Ranges) -> None:
        """A launch that keeps the chip busy for `us`."""
        self.operations.append(Operation("launch", self.stream, us, 0, tag, False, reads, writes))

    def transfer(self, direction: Direction, address: int, nbytes: int, tag: str, resident: bool = False) -> None:
        """A transfer of bytes at an address of the device; nothing for no bytes. DeviceError for what is no direction."""
        if direction not in get_args(Direction):
            raise DeviceError(f"a transfer {direction!r}; allowed: {', '.join(get_args(Direction))}")
        if nbytes:
            where, us = ((address, nbytes),), float(self.link.occupied_us(direction, nbytes))
            reads, writes = ((), where) if direction == "to_device" else (where, ())
            self.operations.append(Operation(direction, self.stream, us, nbytes, tag, resident, reads, writes))

    def wait(self, all_streams: bool = False) -> None:
        """The host waits for the stream, or for all."""
        self.operations.append(Operation("wait", None if all_streams else self.stream))
