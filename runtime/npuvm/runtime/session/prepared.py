"""What a session knows of a model before any size: its steps in stages, in each of which all sizes are known from the start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from npuvm.compiler.graph.model import (
    SIZES,
    DeviceStep,
    Guard,
    HostStep,
    IfStep,
    LoopStep,
    Model,
    ScanStep,
    SizesStep,
    Step,
)
from npuvm.compiler.graph.sums import Computed
from npuvm.compiler.graph.symbols import Derived
from npuvm.runtime.session.binding import available, compile_guards, depends_on, symbols_of

__all__ = ["Prepared", "Stage", "outputs_of", "reads_of", "with_bodies"]


@dataclass(slots=True)
class Stage:
    """Steps whose sizes are known once `roots` are: symbols of inputs, or of what the stage before made on the host.

    `derived`, `guards` and `required` are those that can be told then, and could not before. `lasting` are values that are
    needed after the stage.
    """

    number: int
    steps: tuple[Step, ...]
    derived: tuple[Derived | Computed, ...]
    guards: tuple[Guard, ...]
    required: tuple[Guard, ...]
    lasting: frozenset[str]
    reads: tuple[tuple[str, ...], ...] = field(init=False)
    first_guard: Callable[[Mapping[str, int]], int] = field(init=False)
    first_required: Callable[[Mapping[str, int]], int] = field(init=False)

    def __post_init__(self) -> None:
        self.reads = tuple(reads_of(each) for each in self.steps)
        self.first_guard = compile_guards(self.guards)
        self.first_required = compile_guards(self.required)


def outputs_of(step: Step) -> tuple[str, ...]:
    """Names of the values that a step makes."""
    if isinstance(step, DeviceStep):
        return tuple(step.outputs.values())
    return (step.output,) if isinstance(step, SizesStep) else tuple(name for name in step.outputs if name)


def reads_of(step: Step) -> tuple[str, ...]:
    """Names of the values that a step takes."""
    if isinstance(step, DeviceStep):
        return tuple(dict.fromkeys(step.inputs[p.name] for p in step.graph.params if p.name != SIZES))
    if isinstance(step, SizesStep):
        return ()
    names: tuple[str, ...]
    if isinstance(step, HostStep):
        names = step.inputs
    elif isinstance(step, IfStep):
        names = (step.condition, *step.captured.values())
    elif isinstance(step, LoopStep):
        names = (step.trips, step.condition, *step.carried, *step.captured.values())
    else:
        names = (*step.carried, *step.scanned, *step.captured.values())
    return tuple(dict.fromkeys(name for name in names if name))


def with_bodies(model: Model) -> Iterator[Model]:
    """A model, its bodies, and theirs."""
    yield model
    for step in model.steps:
        if isinstance(step, IfStep):
            yield from with_bodies(step.then_body)
            yield from with_bodies(step.else_body)
        elif isinstance(step, LoopStep | ScanStep):
            yield from with_bodies(step.body)


@dataclass(slots=True)
class Prepared:
    """A model with its steps in stages. `outside` are symbols that are given to it beside those of its inputs.

    What a body is given may be needed again after it has run. `relevant` are the symbols that the model's sizes follow from.
    """

    model: Model
    outside: frozenset[str] = frozenset()
    is_body: bool = False
    stages: list[Stage] = field(default_factory=list)
    relevant: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        model = self.model
        known = set(self.outside) | self._symbols(model.inputs)
        pending, guards, required = list(model.derived), list(model.guards), list(model.required)
        stages: list[Stage] = []
        for number, group in enumerate(self._groups(known, model.derived)):
            found = available(pending, known)
            known |= {each.name for each in found}
            pending = [each for each in pending if each not in found]
            ready, guards = _told(guards, known)
            needed, required = _told(required, known)
            stages.append(Stage(number, tuple(group), tuple(found), ready, needed, frozenset()))
            for step in group:
                known |= self._symbols(outputs_of(step))
        lasting = {*model.outputs.values(), *(model.inputs if self.is_body else ())}
        for stage in reversed(stages):
            stage.lasting = frozenset(lasting)
            for names in stage.reads:
                lasting.update(names)
        self.stages = stages
        self.relevant = frozenset(self._relevant())

    def _relevant(self) -> set[str]:
        model = self.model
        found = self._symbols(list(model.values))
        for derived in model.derived:
            found |= depends_on(derived)
        for guard in (*model.guards, *model.required):
            found |= symbols_of(guard.left) | symbols_of(guard.right)
        for step in model.steps:
            if isinstance(step, DeviceStep):
                found.update(dim for param in step.graph.params for dim in param.type.shape if isinstance(dim, str))
            elif isinstance(step, SizesStep):
                found.update(*(symbols_of(each) for each in step.sizes))
            elif isinstance(step, IfStep):
                found |= (
                    Prepared(step.then_body, is_body=True).relevant | Prepared(step.else_body, is_body=True).relevant
                )
            elif isinstance(step, LoopStep | ScanStep):
                found |= Prepared(step.body, is_body=True).relevant
        return found

    def _symbols(self, names: Collection[str]) -> set[str]:
        kinds = [self.model.values[name] for name in names if name in self.model.values]
        return {dim for kind in kinds for dim in kind.shape or () if isinstance(dim, str)}

    def _groups(self, known: Collection[str], derived: Sequence[Derived | Computed]) -> list[list[Step]]:
        """Steps, cut behind each that makes sizes that were not known."""
        names = set(known) | {each.name for each in available(derived, known)}
        groups: list[list[Step]] = [[]]
        for step in self.model.steps:
            groups[-1].append(step)
            fresh = self._symbols(outputs_of(step)) - names
            if fresh:
                names |= fresh
                names |= {each.name for each in available(derived, names)}
                groups.append([])
        return groups if groups[-1] or len(groups) == 1 else groups[:-1]

    def roots(self, binding: Mapping[str, int]) -> dict[str, int]:
        """The symbols of a binding that are dims of the model's own values, and not computed from others."""
        own = self._symbols(list(self.model.values)) - {each.name for each in self.model.derived}
        return {name: size for name, size in binding.items() if name in own}


def _told(guards: Sequence[Guard], known: Collection[str]) -> tuple[tuple[Guard, ...], list[Guard]]:
    """Those whose symbols are all known, and the others."""
    ready = tuple(each for each in guards if symbols_of(each.left) | symbols_of(each.right) <= set(known))
    return ready, [each for each in guards if each not in ready]
