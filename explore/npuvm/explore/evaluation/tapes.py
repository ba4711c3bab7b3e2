"""Tapes: the launches of a run in order, as the compiler makes them for a chip, before anything is simulated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from npuvm.compiler.graph.model import Model
from npuvm.explore.evaluation.counts import Counts, counts_of
from npuvm.explore.evaluation.keys import digest, image_digest, used_instructions
from npuvm.hw.config import NpuConfig
from npuvm.hw.energy import Work
from npuvm.hw.errors import DeviceError
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import l2_state, simulate, timing_engine
from npuvm.isa import Image, Isa
from npuvm.runtime.device.device import Device
from npuvm.runtime.session import Session
from npuvm.runtime.session.binding import available, derive, symbols_of
from npuvm.runtime.session.errors import NO_ONNX
from npuvm.runtime.session.feeds import shapes_at

__all__ = ["ReadModel", "Tape", "TapedLaunch", "Taper", "read_model", "simulate_tape"]

ROWS = IndexDistribution("uniform")
"""Which rows operators pick by index: no data says so."""

_KEPT_MODELS = 16

_NOTHING = RunResult(0, Fraction(0), (), {}, Work(), 0, 0, {}, {}, {}, (), (), ())
"""What a launch did that nobody has simulated yet."""


@dataclass(frozen=True, eq=False)
class ReadModel:
    """A model, read once for all chips, and a digest of its graph and weights."""

    path: Path
    model: Model
    digest: str

    def at(self, sizes: Mapping[str, int]) -> Model:
        """The model for sizes: the one for all, or one that is read for these alone where they break what it assumes."""
        binding = dict(sizes)
        derive(available(self.model.derived, binding), binding)
        known = (each for each in self.model.guards if symbols_of(each.left) | symbols_of(each.right) <= binding.keys())
        return self.model if all(each.holds(binding) for each in known) else _read_for(self, tuple(sizes.items()))


def read_model(path: Path) -> ReadModel:
    """The model of an ONNX file; it is read again only where the file has changed. CompileError where it is none.

    DeviceError without the package onnx.
    """
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        raise DeviceError(NO_ONNX) from None
    stated = path.stat() if path.is_file() else None
    return _read(path, None if stated is None else (stated.st_mtime_ns, stated.st_size))


@lru_cache(_KEPT_MODELS)
def _read(path: Path, _stated: tuple[int, int] | None) -> ReadModel:
    from npuvm.compiler.frontends.onnx import import_model, load_model
    from npuvm.runtime.session.plan_file import model_hash

    proto = load_model(path)
    return ReadModel(path, import_model(proto), model_hash(proto))


@lru_cache(_KEPT_MODELS)
def _read_for(read: ReadModel, sizes: tuple[tuple[str, int], ...]) -> Model:
    from npuvm.compiler.frontends.onnx import import_model, load_model

    return import_model(load_model(read.path), dict(sizes))


@dataclass(frozen=True)
class TapedLaunch:
    """An image on addresses of its arguments; `discarded` are (address, bytes) that the host wrote or freed just before."""

    image: Image
    addresses: tuple[int, ...]
    discarded: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Tape:
    """The launches of a run; `groups` as in `Counts`. `digest` tells tapes apart that may take different times on a chip.

    Tapes for instruction sets of which one has more instructions than the other may have one digest.
    """

    launches: tuple[TapedLaunch, ...]
    groups: tuple[int, ...]
    images: Mapping[str, Image]
    digest: str

    @staticmethod
    def of(isa: Isa, launches: Sequence[TapedLaunch], groups: Sequence[int]) -> Tape:
        """The tape of launches. Nothing is in L2 before the first, so that nothing can be discarded there."""
        kept = tuple(
            TapedLaunch(each.image, each.addresses, each.discarded if number else ())
            for number, each in enumerate(launches)
        )
        names = {id(each.image): image_digest(each.image) for each in kept}
        listed = [(names[id(each.image)], each.addresses, each.discarded) for each in kept]
        images = {names[id(each.image)]: each.image for each in kept}
        return Tape(kept, tuple(groups), images, digest(listed, list(groups), used_instructions(isa, images.values())))


class Taper:
    """Makes tapes of the runs of one model on one chip: programs are compiled, and launches are kept.

    Every run finds the memory empty, so that a tape does not depend on what was taped before it.
    """

    def __init__(self, model: Model, chip: NpuConfig, fusion: str | None, buffering: str | None = None) -> None:
        self._model = model
        self._taken: list[TapedLaunch] = []
        self._device = Device(chip, timing_only=True, indices=ROWS, taker=self)
        self._session = Session(model, self._device, fusion=fusion, buffering=buffering)

    def take(self, image: Image, addresses: tuple[int, ...], discarded: tuple[tuple[int, int], ...]) -> RunResult:
        """Keep a launch."""
        self._taken.append(TapedLaunch(image, addresses, discarded))
        return _NOTHING

    def tape(self, sizes: Mapping[str, int]) -> Tape:
        """The launches of a run at these sizes; what `Session.time` raises."""
        self._taken.clear()
        try:
            report = self._session.time(shapes_at(self._model, sizes))
        finally:
            self._session.close()
            self._device.launches.clear()
            self._device.operations.clear()
        return Tape.of(self._device.isa, self._taken, [len(group) for group in report.launch_groups_us])


def simulate_tape(tape: Tape, chip: NpuConfig, isa: Isa) -> Counts:
    """Simulate a tape that the verifier has passed, from an empty L2 on; what `simulate` raises."""
    l2 = l2_state(chip)
    results = []
    for each in tape.launches:
        for address, nbytes in each.discarded:
            l2.discard(address, nbytes)
        results.append(
            simulate(
                chip, isa, each.image, addresses=each.addresses, data=False, l2=l2, engine=timing_engine(), indices=ROWS
            )
        )
    return counts_of(results, tape.groups)


def file_digest(path: Path) -> str:
    """A digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
