"""Scenario files: which operators on which shapes, or which model on which sentences, to run on which chip.

A scenario is a YAML file under `configs/`. This module holds its schema and loader; `kernels` holds the
operators, `run` runs, `printing` prints. docs/reference/scenarios.md describes the fields.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from npuvm.hw.errors import ConfigError
from npuvm.isa.resources import list_resources
from npuvm.isa.yaml_strict import Document, load_yaml
from npuvm.runtime.scenarios.errors import first_error

__all__ = [
    "Case",
    "ElementwiseCase",
    "GemmShape",
    "InputFields",
    "KernelScenario",
    "MatmulCase",
    "MiniLmScenario",
    "ModelRun",
    "ModelScenario",
    "PinFields",
    "RowsCase",
    "Scenario",
    "Tolerance",
    "load_scenario",
    "scenario_schema",
    "with_buffering",
]

Size: TypeAlias = Annotated[int, Field(ge=0, le=1 << 24)]
FloatDtype: TypeAlias = Literal["fp32", "fp16", "bf16"]
Dtype: TypeAlias = Literal["fp32", "fp16", "bf16", "int32"]

INTEGER_OPS = frozenset({"add", "sub", "mul", "maximum", "minimum", "relu", "where", "add_row", "mul_column"})
"""Element-wise operators that integers have too; they wrap."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Buffering: TypeAlias = Literal["auto", "single", "double"]


class Tolerance(_Model):
    """A result passes when |result - expected| <= absolute + relative * |expected| for every element."""

    absolute: float = Field(ge=0.0, description="allowed absolute error, in units of the result")
    relative: float = Field(ge=0.0, description="allowed error relative to the expected value")


class PinFields(_Model):
    """What is pinned for launches, as `npuvm.compiler.Pins` explains it; what is left out the compiler chooses."""

    cores: int | None = Field(default=None, ge=1, description="number of cores")
    tile: dict[Literal["vector", "l1", "l0"], tuple[Size, ...]] = Field(
        default_factory=dict, description="vector: [rows, cols]; l1 and l0: [m, n, k]"
    )
    l1_depth: int | None = Field(default=None, ge=1, description="slots of the L1 rings of A and B")
    order: Literal["row", "column", "swizzle", "rounds"] | None = Field(default=None, description="order of the tiles")
    swizzle_width: int | None = Field(default=None, ge=1, description="rows of tiles in a band of order swizzle")
    start: int | None = Field(default=None, ge=0, description="core c begins with its tile number start * c")
    repeat: int | None = Field(default=None, ge=1, description="most repeats of one vector instruction")
    buffering: Buffering | None = Field(default=None, description="most slots of every ring on chip")


class _Case(_Model):
    tolerance: Tolerance | None = Field(default=None, description="default: that of the operator and dtype")
    pins: PinFields = Field(default=PinFields(), description="laid over those of the scenario, field by field")


class ElementwiseCase(_Case):
    """One operator, element by element; every dtype is run with every shape."""

    op: Literal[
        "add", "sub", "mul", "div", "maximum", "minimum", "exp", "sqrt", "relu", "sigmoid", "tanh", "gelu", "where",
        "scale_shift", "add_row", "mul_column", "cast_to_fp32",
    ]  # fmt: skip
    dtypes: tuple[Dtype, ...] = Field(min_length=1)
    shapes: tuple[tuple[Size, ...], ...] = Field(min_length=1, description="one to four dimensions each")

    @field_validator("shapes")
    @classmethod
    def _known_ranks(cls, shapes: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        for shape in shapes:
            if not 1 <= len(shape) <= 4:
                raise ValueError(f"shape {list(shape)} has {len(shape)} dimensions, allowed are 1 to 4")
        return shapes

    @model_validator(mode="after")
    def _known_dtypes(self) -> ElementwiseCase:
        for dtype in self.dtypes:
            if dtype == "int32" and self.op not in INTEGER_OPS:
                raise ValueError(f"{self.op} takes no int32; allowed are fp32, fp16, bf16")
        return self


class RowsCase(_Case):
    """An operator that looks at whole rows: shape is [rows, columns], the columns are normalised or reduced."""

    op: Literal["softmax", "layernorm", "rmsnorm", "sum", "max", "sum_rows"]
    dtypes: tuple[FloatDtype, ...] = Field(min_length=1)
    shapes: tuple[tuple[Size, Size], ...] = Field(min_length=1)


class GemmShape(_Model):
    """Sizes of one product C[batch, m, n] = A[batch, m, k] B[batch, k, n]; no batch means two dimensions."""

    m: Size
    n: Size
    k: Size
    batch: Annotated[int, Field(ge=1)] | None = None


class MatmulCase(_Case):
    """A matrix product with what may follow it."""

    op: Literal["matmul"]
    dtypes: tuple[FloatDtype, ...] = Field(min_length=1)
    shapes: tuple[GemmShape, ...] = Field(min_length=1)
    transpose_a: bool = Field(default=False, description="A is stored as [k, m]")
    transpose_b: bool = Field(default=False, description="B is stored as [n, k]")
    bias: bool = Field(default=False, description="a row of n values is added to every row")
    epilogue: Literal["none", "relu", "gelu"] = Field(default="none", description="vector work on the product")


Case: TypeAlias = Annotated[ElementwiseCase | RowsCase | MatmulCase, Field(discriminator="op")]


class _ScenarioBase(_Model):
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = Field(min_length=1, description="one line for the head of the table")
    chip: str = Field(description="name of a shipped chip, or a chip file's path from here")
    seed: int = Field(default=0, ge=0, description="seed of the random inputs")
    pins: PinFields = Field(default=PinFields(), description="for every launch")


class KernelScenario(_ScenarioBase):
    """Single operators over a sweep of shapes."""

    kind: Literal["kernels"]
    cases: tuple[Case, ...] = Field(min_length=1)


class MiniLmScenario(_ScenarioBase):
    """The all-MiniLM-L6-v2 sentence encoder on sentences of different lengths."""

    kind: Literal["minilm"]
    dtype: Literal["fp16"] = Field(default="fp16", description="tensors in global memory; sums are always fp32")
    cosine_min: float = Field(default=0.999, gt=0.0, le=1.0, description="least cosine with the float32 reference")
    sentences: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)


class ModelRun(_Model):
    """One set of sizes of a model."""

    sizes: dict[str, Size] = Field(default={}, description="a number for each symbol of the model's inputs")
    weight: float = Field(default=1.0, gt=0, description="how often it happens, beside the other runs")


class InputFields(_Model):
    """What an input of a model holds in a run with data."""

    low: int | None = Field(default=None, description="least of random integers")
    high: int | None = Field(default=None, description="largest of random integers")
    scale: float | None = Field(default=None, gt=0, description="standard deviation of random floats around 0")

    @model_validator(mode="after")
    def _one_kind(self) -> InputFields:
        if (self.low is None) != (self.high is None) or (self.low is None) == (self.scale is None):
            raise ValueError("give low and high, or scale")
        if self.low is not None and self.high is not None and self.high < self.low:
            raise ValueError(f"high: {self.high} is less than low: {self.low}")
        return self


class ModelScenario(_ScenarioBase):
    """An ONNX model at some sizes, each run on a chip that has nothing of the run before in its memory."""

    kind: Literal["model"]
    model: str = Field(description="an ONNX file (.onnx, or .onnxtxt in its text form), from here")
    fusion: Literal["none", "pattern", "stack", "both"] | None = Field(
        default=None, description="which operators share a program, which programs a launch; default: as is fastest"
    )
    buffering: Buffering | None = Field(
        default=None, description="most slots of every ring on chip; default: as the compiler chooses"
    )
    runs: tuple[ModelRun, ...] = Field(min_length=1)
    inputs: dict[str, InputFields] = Field(
        default={},
        description="by name or pattern (*.weight), the first that fits; others: floats of scale 1, integers 0 to 1",
    )
    tolerance: Tolerance | None = Field(
        default=None, description="default: that of the output's dtype and largest magnitude"
    )

    @model_validator(mode="after")
    def _no_pins(self) -> ModelScenario:
        if self.pins.model_fields_set:
            raise ValueError("pins: a model takes none; allowed are fusion and buffering")
        return self


Scenario: TypeAlias = Annotated[KernelScenario | MiniLmScenario | ModelScenario, Field(discriminator="kind")]

_ADAPTER: TypeAdapter[KernelScenario | MiniLmScenario | ModelScenario] = TypeAdapter(Scenario)


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of scenario files, for editors and `npuvm schema scenario`."""
    schema = _ADAPTER.json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "npuvm scenario", **schema}


def load_scenario(path: str | Path) -> KernelScenario | MiniLmScenario | ModelScenario:
    """Read a scenario file; raise ConfigError with file, line and field when anything in it is not allowed."""
    document = load_yaml(path, ConfigError)
    try:
        scenario = _ADAPTER.validate_json(_to_json(document))
    except ValidationError as exc:
        raise first_error(document, exc, scenario_schema()) from None
    found = {"chip": _chip(document, scenario.chip)}
    if isinstance(scenario, ModelScenario):
        found["model"] = _model(document, scenario.model)
    return scenario.model_copy(update=found)


def with_buffering(scenario: Scenario, buffering: str | None) -> Scenario:
    """The scenario with this buffering for all its launches, whatever it says itself; as it is for None."""
    if buffering is None:
        return scenario
    if isinstance(scenario, ModelScenario):
        return scenario.model_copy(update={"buffering": buffering})
    changed: dict[str, Any] = {"pins": _buffered(scenario.pins, buffering)}
    if isinstance(scenario, KernelScenario):
        changed["cases"] = tuple(
            case.model_copy(update={"pins": _buffered(case.pins, buffering)}) for case in scenario.cases
        )
    return scenario.model_copy(update=changed)


def _buffered(pins: PinFields, buffering: str) -> PinFields:
    return pins.model_copy(update={"buffering": buffering})


def _to_json(document: Document) -> str:
    if not isinstance(document.data, dict):
        raise ConfigError("a scenario is a mapping of fields", document.where())
    return json.dumps(document.data)


def _model(document: Document, model: str) -> str:
    path = Path(document.path).parent / model
    if not path.is_file():
        raise ConfigError(f"model: no such file: {path}", document.where(("model",)))
    return str(path)


def _chip(document: Document, chip: str) -> str:
    """A shipped chip's name as it is; a chip file (with a suffix or a folder) as a path from the scenario's folder."""
    if len(Path(chip).parts) > 1 or Path(chip).suffix:
        path = Path(document.path).parent / chip
        if not path.is_file():
            raise ConfigError(f"chip: no such file: {path}", document.where(("chip",)))
        return str(path)
    names = list_resources("chip")
    if chip not in names:
        shipped = ", ".join(names) or "none"
        raise ConfigError(f"chip: no chip named {chip!r}; shipped are: {shipped}", document.where(("chip",)))
    return chip
