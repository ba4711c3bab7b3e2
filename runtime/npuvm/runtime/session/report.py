"""What a run of a session did, and what a session has spent so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from npuvm.runtime.device.run_timeline import RunCalls

__all__ = ["HostUse", "RunReport", "SessionStats"]


@dataclass(slots=True)
class HostUse:
    """An operator of the host over a run: how often, and what it made cross from and to the device.

    Microseconds of transfers are simulated, each as if it were alone; what it computes takes no simulated time.
    """

    op: str
    source: str
    reason: str
    provider: str
    calls: int = 0
    to_host_bytes: int = 0
    to_device_bytes: int = 0
    to_host_us: float = 0.0
    to_device_us: float = 0.0
    measured_us: float = 0.0


@dataclass(slots=True)
class RunReport:
    """One run. Bytes, launches and cycles are simulated or counted; names with `measured_us` are host time of this machine.

    `cycles` are those of all launches on the chip, `simulated_us` what passed on the stream with the host's part of each
    launch. `launch_groups_us` are simulated times of launches; between two groups the host waits for results. `iterations`
    are those of loops and scans. `upload_bytes` and `download_bytes` are all that crossed, those of host operators included,
    `upload_us` and `download_us` what these transfers take, each as if it were alone. Constants that this run was the first to
    need are apart from them, in `weight_upload_bytes` and `weight_upload_us`. Neither is in `simulated_us`.
    `peak_bytes` is the most memory that the run had beside the weights. `known_shape`: no part of it was compiled in this
    run. `reread` says why the model was read again for this run, a guard that does not hold for example; "" where it was not.
    What the static verifier takes before the first launch of a program is no part of compiling.
    """

    shapes: dict[str, tuple[int, ...]]
    known_shape: bool = True
    reread: str = ""
    launches: int = 0
    cycles: int = 0
    simulated_us: float = 0.0
    upload_bytes: int = 0
    download_bytes: int = 0
    upload_us: float = 0.0
    download_us: float = 0.0
    weight_upload_bytes: int = 0
    weight_upload_us: float = 0.0
    peak_bytes: int = 0
    weight_bytes: int = 0
    hosts: dict[str, HostUse] = field(default_factory=dict)
    iterations: int = 0
    launch_groups_us: list[list[float]] = field(default_factory=list)
    bind_measured_us: float = 0.0
    compile_measured_us: float = 0.0
    verify_measured_us: float = 0.0
    total_measured_us: float = 0.0
    output_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    calls: RunCalls | None = field(default=None, repr=False)
    """What the host asked of the device; None where no time was simulated."""

    @property
    def with_transfers_us(self) -> float:
        """What `simulated_us` is with all transfers but those of constants, from the first call to the end of the last."""
        return 0.0 if self.calls is None else self.calls.timeline.total_us


@dataclass(slots=True)
class SessionStats:
    """Totals of a session.

    `overhead_measured_us` is host time of the last run without compiling, simulation, and operators of the host.
    """

    runs: int = 0
    known_shapes: int = 0
    shapes_compiled: int = 0
    models_reread: int = 0
    compile_measured_us: float = 0.0
    overhead_measured_us: float = 0.0
