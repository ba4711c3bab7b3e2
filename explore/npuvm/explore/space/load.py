"""Reads a space file: strict YAML, validated against the chip that it varies; every fault names its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from pydantic import ValidationError

from npuvm.explore.space.constraints import Constraint
from npuvm.explore.space.measures import MEASURES
from npuvm.explore.space.parameters import EXTENSIONS, OPTIONS, Parameter, range_values
from npuvm.explore.space.schema import (
    NAME,
    SPACE_ADAPTER,
    Bundles,
    Extensions,
    ParameterFields,
    RangeFields,
    SpaceFields,
    Value,
    WorkloadFields,
    tagged_schema,
)
from npuvm.explore.space.space import Objective, Rule, Space, known_names
from npuvm.explore.space.workloads import Workload, scenario_runs, sized_runs
from npuvm.hw.config import NpuConfig, chip_reader
from npuvm.hw.config.fields import leaf_at, leaf_paths, suggest
from npuvm.hw.config.layers import chip_path
from npuvm.hw.energy import load_technology
from npuvm.hw.errors import ConfigError
from npuvm.isa import load_isa
from npuvm.isa.errors import NpuvmError
from npuvm.isa.yaml_strict import Document, YamlPath, load_yaml, parse_yaml
from npuvm.runtime.scenarios.errors import first_error
from npuvm.runtime.scenarios.schema import ModelScenario, load_scenario

__all__ = ["load_space", "load_space_text"]


def load_space(path: str | Path) -> Space:
    """The space of a file. ConfigError with file, line and field when anything in it is not allowed."""
    return _space(load_yaml(path, ConfigError), Path(path).read_text(encoding="utf-8"))


def load_space_text(text: str, path: str | Path, *, files: bool = True) -> Space:
    """The space of a text that stood in a file; paths in it go from the file's folder. ConfigError as of `load_space`.

    Without `files` the text is one that was read before: what it names need not be there any more. Of a scenario that is not
    there no runs are known, of a chip that is not there no extensions.
    """
    return _space(parse_yaml(text, str(path), ConfigError), text, files)


def _space(document: Document, text: str, files: bool = True) -> Space:
    if not isinstance(document.data, dict):
        raise ConfigError("a design space is a mapping of fields", document.where())
    try:
        fields = SPACE_ADAPTER.validate_json(json.dumps(document.data))
    except ValidationError as exc:
        raise first_error(document, exc, tagged_schema(), "design space") from None
    return _Reader(document, fields, text, files).space()


class _Reader:
    """Makes a space of a file's fields, with the file at hand for the places of faults."""

    def __init__(self, document: Document, fields: SpaceFields, text: str, files: bool) -> None:
        self._document = document
        self._text = text
        self._fields = fields
        self._files = files
        self._folder = Path(document.path).parent
        self._base = self._file_or_name(fields.chip)
        try:
            self._chip_of = chip_reader(chip_path(self._base))
            self._chip: NpuConfig = self._chip_of(())
            self._chip_extensions = self._chip.isa.extensions
        except ConfigError as error:
            self._chip_extensions = ()
            if files:
                raise ConfigError(f"chip = {fields.chip!r}: {error}", document.where(("chip",))) from None

    def space(self) -> Space:
        fields = self._fields
        try:
            technology = self._file_or_name(fields.technology)
            if self._files:
                load_technology(technology)
        except ConfigError as error:
            self._fail(("technology",), f"technology = {fields.technology!r}: {error}")
        parameters = tuple(
            parameter for name, each in fields.parameters.items() for parameter in self._parameters(name, each)
        )
        self._written_once(parameters)
        workloads = tuple(self._workload(at, each) for at, each in enumerate(fields.workloads))
        names = [workload.name for workload in workloads]
        for at, name in enumerate(names):
            if name in names[:at]:
                self._fail(("workloads", at, "name"), f"workload {name!r} is there already; names are used once")
        return Space(
            fields.name,
            fields.title,
            Path(self._document.path),
            self._text,
            self._base,
            parameters,
            tuple(self._rule(at, parameters) for at in range(len(fields.constraints))),
            workloads,
            tuple(self._objective(at, names) for at in range(len(fields.objectives))),
            MappingProxyType(dict(fields.budgets)),
            technology,
            fields.search,
            self._chip_extensions,
        )

    def _file_or_name(self, text: str) -> str:
        """A path from the file's folder where the text is one, else the name as it is."""
        return str(self._folder / text) if len(Path(text).parts) > 1 or Path(text).suffix else text

    def _fail(self, path: YamlPath, message: str) -> NoReturn:
        raise ConfigError(message, self._document.where(path))

    # Parameters.

    def _parameters(self, name: str, fields: ParameterFields) -> Iterator[Parameter]:
        place: YamlPath = ("parameters", name)
        if isinstance(fields, Extensions):
            yield from self._extensions(name, fields)
        elif name == EXTENSIONS:
            self._fail(place, f"{name}: allowed is {{optional: [names of extensions]}}")
        elif isinstance(fields, Bundles):
            yield self._bundle(name, fields)
        else:
            try:
                values = range_values(fields) if isinstance(fields, RangeFields) else fields
            except ValueError as error:
                self._fail(place, f"{name}: {error}")
            even = isinstance(fields, RangeFields) and fields.factor is None
            yield self._listed(name, values, (*values[:2], values[-1]) if even else values)

    def _listed(self, name: str, values: tuple[Value, ...], telling: tuple[Value, ...]) -> Parameter:
        """A parameter of values. `telling` are those that tell of all: of evenly spaced numbers the first two and the last,
        since what a field allows are numbers from one to another, or multiples among them."""
        place: YamlPath = ("parameters", name)
        for at, value in enumerate(values):
            if value in values[:at]:
                self._fail(place, f"{name}: the value {value!r} stands twice")
        if name in OPTIONS:
            for at, value in enumerate(values):
                # 1 is not true here, although they are equal.
                if not any(value is each or (isinstance(each, str) and value == each) for each in OPTIONS[name]):
                    allowed = ", ".join(str(each).lower() for each in OPTIONS[name])
                    self._fail((*place, at), f"{name} = {value!r}; allowed are {allowed}")
            return Parameter(name, "option", values)
        beside = f"allowed beside them are {', '.join(OPTIONS)}, {EXTENSIONS}"
        for at, value in enumerate(telling):
            self._field(name, value, (*place, at), beside)
        return Parameter(name, "field", values)

    def _field(self, name: str, value: Value, place: YamlPath, beside: str) -> None:
        """A ConfigError unless a field of the chip may have a value, whatever other fields have.

        `beside` is told where there is no such field.
        """
        if not self._files:
            return
        leaf = leaf_at(tuple(name.split(".")))
        if leaf is None or name in ("name", "description", EXTENSIONS):
            known = leaf_paths(self._chip.model_dump())
            self._fail(place, f"{name}: no field of a chip{suggest(name, known)}; {beside}")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            self._chip_of([f"{name}={text}"])
        except ConfigError as error:
            # What contradicts another field of the base may agree with that of a point.
            if leaf.allowed in str(error) and f"{name} = " in str(error):
                self._fail(place, f"{name} = {value!r}: allowed is {leaf.allowed}")

    def _bundle(self, name: str, fields: Bundles) -> Parameter:
        beside = "choices set fields alone; options and extensions are parameters of their own"
        for label, writes in fields.choices.items():
            for dotted, value in writes.items():
                self._field(dotted, value, ("parameters", name, "choices", label, dotted), beside)
        if not re.fullmatch(NAME, name) or leaf_at((name,)) is not None:
            allowed = "choices that set fields need a name of their own: small letters, digits and _, no field's"
            self._fail(("parameters", name), f"{name}: {allowed}")
        return Parameter(name, "bundle", tuple(fields.choices), MappingProxyType(dict(fields.choices)))

    def _extensions(self, name: str, fields: Extensions) -> Iterator[Parameter]:
        if name != EXTENSIONS:
            self._fail(("parameters", name), f"{name}: optional extensions stand under {EXTENSIONS}")
        for at, each in enumerate(fields.optional):
            place: YamlPath = ("parameters", name, "optional", at)
            extension = self._file_or_name(each)
            if self._files:
                self._check_extension(each, extension, place)
            if Path(each).stem in (Path(other).stem for other in fields.optional[:at]):
                self._fail(place, f"an extension {Path(each).stem!r} is there already; names are used once")
            yield Parameter(f"{name}.{Path(each).stem}", "extension", (False, True), extension=extension)

    def _check_extension(self, name: str, extension: str, place: YamlPath) -> None:
        try:
            load_isa(self._chip.isa.base, [extension])
        except NpuvmError as error:
            self._fail(place, f"{name!r} cannot be laid over {self._chip.isa.base}: {error}")
        if extension in self._chip_extensions:
            self._fail(place, f"{name!r} is an extension of the base chip already")

    def _written_once(self, parameters: tuple[Parameter, ...]) -> None:
        owners: dict[str, str] = {}
        for parameter in parameters:
            for name in {name for value in parameter.values for name in parameter.writes(value)}:
                if name in owners:
                    place: YamlPath = ("parameters", parameter.name)
                    self._fail(place, f"{parameter.name}: sets {name}, which {owners[name]} sets too")
                owners[name] = parameter.name

    # What must hold, what is run, what counts.

    def _rule(self, at: int, parameters: tuple[Parameter, ...]) -> Rule:
        fields = self._fields.constraints[at]
        place: YamlPath = ("constraints", at, "require")
        try:
            constraint = Constraint(fields.require)
        except ValueError as error:
            self._fail(place, str(error))
        rule = Rule(constraint, fields.because, self._document.where(("constraints", at)))
        if not self._files:
            return rule
        names = [*leaf_paths(self._chip.model_dump()), *(parameter.name for parameter in parameters)]
        known = tuple(dict.fromkeys(names))
        for name in constraint.names:
            if not known_names(parameters, self._chip, name):
                self._fail(place, f"{name}: no parameter and no field of the chip{suggest(name, known)}")
        return rule

    def _workload(self, at: int, fields: WorkloadFields) -> Workload:
        kind = "model" if fields.model is not None else "scenario"
        path = self._folder / str(fields.model if fields.model is not None else fields.scenario)
        if self._files and not path.is_file():
            self._fail(("workloads", at, kind), f"{kind}: no such file: {path}")
        try:
            runs = sized_runs(fields)
        except ValueError as error:
            self._fail(("workloads", at, "sizes"), str(error))
        where = self._document.where(("workloads", at))
        if kind == "model":
            return Workload(fields.name, "model", path, fields.weight, runs, where=where)
        scenario = None
        try:
            scenario = load_scenario(path)
        except ConfigError as error:
            if self._files:
                self._fail(("workloads", at, kind), f"{kind}: {error}")
        if not isinstance(scenario, ModelScenario):
            return Workload(fields.name, "scenario", path, fields.weight, runs, path, where=where)
        model, runs = Path(scenario.model), scenario_runs(scenario)
        options = scenario.fusion, scenario.buffering
        return Workload(fields.name, "model", model, fields.weight, runs, path, *options, where=where)

    def _objective(self, at: int, workloads: list[str]) -> Objective:
        fields = self._fields.objectives[at]
        if fields in self._fields.objectives[:at]:
            self._fail(("objectives", at), f"{fields.measure} is an objective already")
        measure = MEASURES[fields.measure]
        if fields.workload is not None:
            place: YamlPath = ("objectives", at, "workload")
            if not measure.per_workload:
                self._fail(place, f"{measure.name} is of the chip, not of a workload")
            if fields.workload not in workloads:
                self._fail(place, f"no workload {fields.workload!r}; there are {', '.join(workloads)}")
        return Objective(measure, fields.workload)
