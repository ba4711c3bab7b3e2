"""Models of the zoo in the modes of fusion, on the simulator in time only."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.fusing.modes import Timed
from benchmarks.zoo.entry import Sizes
from benchmarks.zoo.models import MODELS

from npuvm.compiler.language.pins import FUSIONS
from npuvm.hw.config import NpuConfig
from npuvm.runtime.session import Session

__all__ = ["measure_model"]


def measure_model(name: str, chip: NpuConfig, *, small: bool, shapes: int) -> Iterator[tuple[Sizes, dict[str, Timed]]]:
    """The modes of a model at its first sizes. One call is the first at its sizes, "call to call" the one behind it."""
    variant = MODELS[name].small if small else MODELS[name].full
    proto = variant.make()
    sessions = {mode: Session(proto, chip, timing_only=True, fusion=mode) for mode in FUSIONS}
    for sizes in variant.shapes[:shapes]:
        given = {key: array.shape for key, array in variant.inputs(sizes).items()}
        yield sizes, {mode: _timed(session, given) for mode, session in sessions.items()}


def _timed(session: Session, shapes: dict[str, tuple[int, ...]]) -> Timed:
    first = session.time(shapes).simulated_us
    report = session.time(shapes)
    moved = [record.result.bytes for record in session.device.launches]
    return Timed(
        report.launches,
        report.cycles,
        sum(each["l2"] for each in moved),
        sum(each["hbm_read"] + each["hbm_write"] for each in moved),
        first,
        report.simulated_us,
    )
