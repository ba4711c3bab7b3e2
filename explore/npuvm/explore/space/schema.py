"""The schema of a design space file: what may vary, what must hold, what is run, what counts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, field_validator, model_validator

from npuvm.explore.space.measures import MEASURES

__all__ = [
    "NAME",
    "Bundles",
    "ConstraintFields",
    "Extensions",
    "JointSizes",
    "ObjectiveFields",
    "ParameterFields",
    "RangeFields",
    "SearchFields",
    "SizeFields",
    "SpaceFields",
    "Value",
    "WorkloadFields",
    "space_json_schema",
    "tagged_schema",
]

Value: TypeAlias = int | float | str | bool
"""A value of a field of a chip, or of a compiler option."""

NAME = r"^[a-z][a-z0-9_]*$"
Name: TypeAlias = Annotated[str, Field(pattern=NAME)]
Extent: TypeAlias = Annotated[int, Field(ge=0, le=1 << 24)]
Weight: TypeAlias = Annotated[float, Field(ge=1e-9, le=1e9)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


class RangeFields(_Model):
    """Values from one number to another: by a step, by a factor, or so many of them evenly apart."""

    first: int | float = Field(alias="from", description="the first value")
    last: int | float = Field(alias="to", description="the largest value allowed")
    step: int | float | None = Field(
        default=None, gt=0, description="distance of neighbours; 1 when nothing else is given"
    )
    factor: int | float | None = Field(default=None, gt=1, description="quotient of neighbours")

    @model_validator(mode="after")
    def _one_way(self) -> RangeFields:
        if self.last < self.first:
            raise ValueError(f"to: {self.last} is less than from: {self.first}")
        if self.step is not None and self.factor is not None:
            raise ValueError("step and factor exclude each other")
        if self.factor is not None and self.first <= 0:
            raise ValueError(f"a range by a factor begins above 0, not at {self.first}")
        return self


class Bundles(_Model):
    """Choices that set several fields at once, by name."""

    choices: dict[Name, dict[str, Value]] = Field(min_length=1, description="name: {field: value, ..}")


class Extensions(_Model):
    """Extensions of the instruction set, each on or off."""

    optional: tuple[str, ...] = Field(min_length=1, description="names, or .yaml files from here")


_FORMS = "allowed is a list of values, a range {from, to, step or factor}, {choices: {..}} or {optional: [..]}"


def _form(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "values"
    if isinstance(value, Bundles) or (isinstance(value, dict) and "choices" in value):
        return "bundles"
    if isinstance(value, Extensions) or (isinstance(value, dict) and "optional" in value):
        return "extensions"
    return "range" if isinstance(value, RangeFields | dict) else None


ParameterFields: TypeAlias = Annotated[
    Annotated[Annotated[tuple[Value, ...], Field(min_length=1)], Tag("values")]
    | Annotated[RangeFields, Tag("range")]
    | Annotated[Bundles, Tag("bundles")]
    | Annotated[Extensions, Tag("extensions")],
    Discriminator(
        _form,
        custom_error_type="parameter",
        custom_error_message=_FORMS,
    ),
]


class ConstraintFields(_Model):
    """What must hold between fields of a chip and parameters; a point where it does not is no point of the space."""

    require: str = Field(min_length=1, description="an expression over fields: core.l1_kib >= 2 * core.l0a_kib")
    because: str = Field(default="", description="why, for whoever reads the report")


class Uniform(_Model):
    """Sizes spread evenly."""

    least: Extent
    most: Extent


class LogNormal(_Model):
    """Sizes whose logarithms are spread normally: half are below the median, two thirds within median / and * spread."""

    median: float = Field(gt=0)
    spread: float = Field(gt=1)
    least: Extent = 1
    most: Extent = 1 << 24


class SizeFields(_Model):
    """How one size of a workload is distributed, and in how many equally likely values it is taken."""

    uniform: Uniform | None = None
    lognormal: LogNormal | None = None
    points: int = Field(default=3, ge=1, le=64, description="number of values")

    @model_validator(mode="after")
    def _one_kind(self) -> SizeFields:
        if (self.uniform is None) == (self.lognormal is None):
            raise ValueError("give one of uniform, lognormal")
        return self


class JointSizes(_Model):
    """One set of sizes with its weight among those of its workload."""

    at: dict[str, Extent] = Field(min_length=1, description="a number for each symbol of the model's inputs")
    weight: Weight = 1.0


_SPREADS = "allowed is a number, a list of numbers, {uniform: {least, most}} or {lognormal: {median, spread}}"


def _spread(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "values"
    if isinstance(value, SizeFields | dict):
        return "distribution"
    return "one" if isinstance(value, int) else None


Spread: TypeAlias = Annotated[
    Annotated[Extent, Tag("one")]
    | Annotated[Annotated[tuple[Extent, ...], Field(min_length=1)], Tag("values")]
    | Annotated[SizeFields, Tag("distribution")],
    Discriminator(_spread, custom_error_type="sizes", custom_error_message=_SPREADS),
]


def _sizes(value: Any) -> str:
    return "joint" if isinstance(value, list | tuple) else "symbols"


class WorkloadFields(_Model):
    """A model at sizes of some distribution, or a scenario; its weight is its share of the time of use."""

    name: Name
    model: str | None = Field(default=None, description="an ONNX file (.onnx, or its text form), from here")
    scenario: str | None = Field(default=None, description="a scenario file, from here")
    weight: Weight = Field(default=1.0, description="how often it is run, beside the others")
    sizes: Annotated[
        Annotated[dict[str, Spread], Tag("symbols")] | Annotated[tuple[JointSizes, ...], Tag("joint")],
        Discriminator(_sizes),
    ] = Field(default_factory=dict, description="of a model's symbols: each by itself, or a list of {at, weight}")

    @model_validator(mode="after")
    def _one_source(self) -> WorkloadFields:
        if (self.model is None) == (self.scenario is None):
            raise ValueError("give one of model, scenario")
        if self.scenario is not None and self.sizes:
            raise ValueError("sizes are for models; those of a scenario stand in its file")
        return self


class ObjectiveFields(_Model):
    """A measure that counts, of all workloads by their weights or of one."""

    measure: str
    workload: str | None = Field(default=None, description="of this workload alone; without it of all by weight")

    @field_validator("measure")
    @classmethod
    def _known(cls, measure: str) -> str:
        name, _, workload = measure.partition(" of ")
        if workload and name in MEASURES:
            raise ValueError(f"of one workload it is {{measure: {name}, workload: {workload}}}")
        if measure not in MEASURES:
            raise ValueError(f"allowed are {', '.join(MEASURES)}")
        return measure


class SearchFields(_Model):
    """How the space is searched when the command says nothing else."""

    sampler: Literal["grid", "random", "tpe", "nsga2"] = "tpe"
    evaluations: int = Field(default=100, ge=1, description="points that are evaluated at most")
    batch: int = Field(
        default=8, ge=1, le=1024, description="points that are asked for at a time; a generation of nsga2"
    )
    seed: int = Field(default=0, ge=0)


class SpaceFields(_Model):
    """A design space."""

    name: Name
    title: str = Field(min_length=1, description="one line for the head of the report")
    chip: str = Field(description="the chip that is varied: a shipped name, or a chip file's path from here")
    parameters: dict[str, ParameterFields] = Field(
        min_length=1,
        description="by field of the chip (core.ub_kib), by compiler.fusion, compiler.buffering, isa.extensions, "
        "or by a name of choices that set several fields",
    )
    constraints: tuple[ConstraintFields, ...] = ()
    workloads: tuple[WorkloadFields, ...] = Field(min_length=1)
    objectives: tuple[ObjectiveFields, ...] = Field(min_length=1)
    budgets: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="the most of a measure; of throughput the least"
    )
    technology: str = Field(
        default="n7", description="what prices area and energy: a shipped name, or a file from here"
    )
    search: SearchFields = SearchFields()

    @field_validator("budgets")
    @classmethod
    def _known_budgets(cls, budgets: dict[str, float]) -> dict[str, float]:
        for measure in budgets:
            if measure not in MEASURES:
                raise ValueError(f"no measure {measure!r}; allowed are {', '.join(MEASURES)}")
        return budgets


SPACE_ADAPTER: TypeAdapter[SpaceFields] = TypeAdapter(SpaceFields)


def tagged_schema() -> dict[str, Any]:
    """The schema with what the forms of a parameter are called in errors."""
    schema = space_json_schema()
    forms = {"range": "RangeFields", "bundles": "Bundles", "extensions": "Extensions"}
    mapping = {tag: f"#/$defs/{name}" for tag, name in forms.items()}
    schema["properties"]["parameters"]["additionalProperties"]["discriminator"] = {"mapping": mapping}
    return schema


def space_json_schema() -> dict[str, Any]:
    """JSON Schema of space files, for editors and `npuvm schema space`."""
    schema = SPACE_ADAPTER.json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "npuvm design space", **schema}
