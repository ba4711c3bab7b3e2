"""Launches of a plan's segments, where segments that differ in names only share their programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.plan.form import SegmentForm
from npuvm.compiler.plan.joint import Joint
from npuvm.compiler.program.compiled import Launch, TensorSpec
from npuvm.compiler.program.joint_launches import RelayLaunches
from npuvm.compiler.program.segment_launches import PickLaunches, SegmentLaunches
from npuvm.compiler.reduce.launches import joined_parts
from npuvm.compiler.vector.launches import VectorLaunches
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa
from npuvm.isa.records import quick_record

__all__ = ["Launched", "SharedLaunches"]

_PART = re.compile(r"[a-z]+\d+")


@quick_record
@dataclass(frozen=True, slots=True)
class Launched:
    """Launches of segments: each program's own, the same with those that continue others joined, and tensors between them."""

    apart: tuple[Launch, ...] = ()
    joined: tuple[Launch, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()


class _Shared:
    """A segment, and the launches that it has like all others of its form."""

    def __init__(self, form: SegmentForm, launches: SegmentLaunches, kinds: Mapping[str, str]) -> None:
        self.form, self.launches, self._kinds = form, launches, kinds
        self._weighed = None if isinstance(launches, VectorLaunches | PickLaunches) else launches

    def launched(self, values: Sequence[int], linked: bool, chip: NpuConfig, isa: Isa) -> Launched:
        own = self._weighed
        made = self.launches.launch(values) if own is None else own.launch(values, linked=linked)
        if made is None:
            return Launched()
        if isinstance(made, Launch):
            alone = (made,)
            return Launched(alone, alone)
        return Launched(made.launches, joined_parts(made, self._kinds, chip, isa), made.tensors)


class _Renaming:
    """Names of one segment for those of another of its form."""

    def __init__(self, source: SegmentForm, target: SegmentForm) -> None:
        self._parts = dict(zip(source.parts, target.parts, strict=True))
        self._names = dict(zip(source.tensors, target.tensors, strict=True))

    def launch(self, launch: Launch) -> Launch:
        args, writes = (tuple([self.name(name) for name in names]) for names in (launch.args, launch.writes))
        name = self.text(launch.segment)
        return Launch(name, launch.kind, launch.image, args, writes, launch.continues, launch.beside)

    def tensor(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(self.name(spec.name), spec.kind, spec.dtype, spec.shape, spec.offset)

    def name(self, name: str) -> str:
        """A tensor's name; those between launches of a segment begin with the segment's."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = self.text(name)
        return found

    def text(self, text: str) -> str:
        found = self._parts.get(text)
        if found is None:
            found = self._parts[text] = _PART.sub(lambda part: self._parts.get(part[0], part[0]), text)
        return found


class SharedLaunches:
    """The launches of segments for values of the symbols; `make` gives those of one segment.

    `kinds` are the kinds of the plan's tensors by name.
    """

    def __init__(
        self,
        segments: Sequence[Joint],
        make: Callable[[Joint], SegmentLaunches],
        kinds: Mapping[str, str],
        chip: NpuConfig,
        isa: Isa,
    ) -> None:
        self._chip, self._isa = chip, isa
        self._segments: list[tuple[_Shared, _Renaming | None]] = []
        known: dict[Hashable, _Shared] = {}
        for segment in segments:
            form = SegmentForm(segment)
            shared = known.get(form.key)
            if shared is None:
                shared = known[form.key] = _Shared(form, make(segment), kinds)
            renaming = None if shared.form is form else _Renaming(shared.form, form)
            self._segments.append((shared, renaming))
        self.forms = len(known)

    def of(self, at: int) -> SegmentLaunches:
        """The launches of segment number `at`; those of one form share them, so names may be another's."""
        return self._segments[at][0].launches

    def cycles(self, values: Sequence[int], *, linked: bool = False) -> list[float]:
        """Estimated cycles of each segment, those of rows moved by index left out.

        Where launches are going to be `linked` into one, those of the parts of a relay that is none then.
        """
        made: dict[int, tuple[float, ...]] = {}
        found: list[float] = []
        for shared, _ in self._segments:
            own = shared.launches
            if not isinstance(own, PickLaunches):
                if id(shared) not in made:
                    if linked and isinstance(own, RelayLaunches):
                        made[id(shared)] = own.linked_cycles(values)
                    else:
                        made[id(shared)] = (own.cycles(values),)
                found += made[id(shared)]
        return found

    def alike(self, values: Sequence[int]) -> bool:
        """Whether the launches are the same where all are going to be linked into one and where not."""
        known = {id(shared): shared.launches for shared, _ in self._segments}.values()
        return all(isinstance(each, VectorLaunches | PickLaunches) or each.alike(values) for each in known)

    def launched(self, values: Sequence[int], linked: bool) -> list[Launched]:
        """What each segment becomes, in order, alone or where all of them are going to be `linked` into one launch."""
        made: dict[int, Launched] = {}
        found: list[Launched] = []
        for shared, renaming in self._segments:
            here = made.get(id(shared))
            if here is None:
                here = made[id(shared)] = shared.launched(values, linked, self._chip, self._isa)
            found.append(here if renaming is None else _renamed(here, renaming))
        return found


def _renamed(made: Launched, renaming: _Renaming) -> Launched:
    apart = tuple([renaming.launch(each) for each in made.apart])
    whole = apart if made.joined is made.apart else tuple([renaming.launch(each) for each in made.joined])
    return Launched(apart, whole, tuple([renaming.tensor(each) for each in made.tensors]))
