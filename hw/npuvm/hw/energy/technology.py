"""The technology file: what operations, bytes and square millimetres cost in a process, each number with its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import exp, log
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from npuvm.hw.config import DEFAULT_ERROR_PCT, Trust
from npuvm.hw.config.basics import MAX_ERROR_PCT
from npuvm.hw.errors import ConfigError
from npuvm.isa.resources import find_resource
from npuvm.isa.yaml_strict import Document, load_yaml, parse_yaml

__all__ = [
    "KIND_OF_PRIMITIVE",
    "AreaCosts",
    "EnergyCosts",
    "Kind",
    "Number",
    "PositiveNumber",
    "Technology",
    "load_technology",
    "parse_technology",
]

Kind: TypeAlias = Literal["add", "mul", "div", "pow", "exp", "log", "sqrt", "logic", "copy"]
"""What a technology prices per element; `KIND_OF_PRIMITIVE` says which primitives of the instruction set are which."""

KIND_OF_PRIMITIVE: Mapping[str, Kind] = {
    **dict.fromkeys(("add", "sub", "neg", "abs", "max", "min", "compare", "isfinite"), "add"),
    **dict.fromkeys(("floor", "ceil", "rint", "trunc"), "add"),
    **{f"{name}_{axis}": "add" for name in ("sum", "max", "min", "argmax", "cumsum") for axis in ("last", "first")},
    "iota": "add",
    **dict.fromkeys(("exp", "tanh", "erf"), "exp"),
    **dict.fromkeys(("and", "or", "xor", "not"), "logic"),
    **dict.fromkeys(("where", "copy"), "copy"),
    **dict.fromkeys(("mul", "prod_last", "prod_first"), "mul"),
    "div": "div",
    "pow": "pow",
    "log": "log",
    "sqrt": "sqrt",
}
"""Primitive of the instruction set -> kind. A reduction takes each element once; a comparison is a subtraction."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Section(BaseModel):
    """A part of the file: read-only, no unknown fields, no silent conversions but that of a whole number to a float."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Number(_Section):
    """A number with its origin; `error_pct` is the half-width of its error bar, by its trust unless given."""

    value: float = Field(ge=0, description="the number, in the unit that its field's name ends with")
    source: str = Field(min_length=1, description="where it comes from")
    trust: Trust = Field(description="how far it is trusted")
    error_pct: float | None = Field(
        default=None, ge=0, le=MAX_ERROR_PCT, description="half-width of the error bar in percent"
    )

    @property
    def error(self) -> float:
        """Relative half-width of the error bar: 0.25 for 25 percent."""
        return (DEFAULT_ERROR_PCT[self.trust] if self.error_pct is None else self.error_pct) / 100


class PositiveNumber(Number):
    """A number that is divided by, so that it cannot be 0."""

    value: float = Field(gt=0, description="the number, in the unit that its field's name ends with")


class EnergyCosts(_Section):
    """Energy of events, and the power that flows without any."""

    operation_pj: Mapping[Kind, Annotated[Mapping[Name, Number], Field(min_length=1)]] = Field(
        description="an element operation by kind and by the type that the vector unit calculates in"
    )
    multiply_add_pj: Mapping[Name, Number] = Field(
        min_length=1, description="a multiply-add of the cube, accumulation included, by operand type"
    )
    arithmetic_factor: Number = Field(
        description="times the arithmetic: pipeline registers, clock and operand wires around it"
    )
    sram_pj_per_byte: Mapping[Annotated[int, Field(ge=1)], PositiveNumber] = Field(
        min_length=2,
        json_schema_extra={"propertyNames": {"pattern": "^[1-9][0-9]*$"}},
        description="a byte read or written, by capacity of the array in KiB; between them a power law holds",
    )
    wire_pj_per_byte_mm: Number = Field(description="a byte over a millimetre of on-chip network")
    memory_pj_per_byte: Number = Field(description="a byte of main memory, its interface included")
    word_pj: Number = Field(description="fetch and decoding of a 64-bit instruction word")
    dispatch_pj: Number = Field(description="address generation and dispatch of an instruction")
    static_w_per_mm2: Number = Field(description="power of an idle chip by its area: leakage, clock, idle memory")


class AreaCosts(_Section):
    """Area of what a chip is made of."""

    multiply_add_um2: Mapping[Name, Number] = Field(
        min_length=1, description="one multiply-add a cycle in the cube, with its registers and wires, by operand type"
    )
    vector_lane_um2: Number = Field(description="one fp32 element a cycle in the vector unit, all its functions")
    extension_um2: Mapping[Name, Number] = Field(
        default_factory=dict,
        description="one fp32 element a cycle of what instructions of extensions need beside that, by timing class",
    )
    queue_bit_um2: Number = Field(description="a bit of an instruction that waits in front of a unit")
    buffer_mm2_per_mib: Number = Field(description="UB, L1 and L0")
    l2_mm2_per_mib: Number = Field(description="data and tags of L2")
    core_mm2: Number = Field(description="sequencer, DMA engines and scalar part of a core")
    l2_slice_mm2: Number = Field(description="control of an L2 slice and its port to the network")
    memory_phy_mm2: Number = Field(
        description="interface and controller of one main memory device (HBM stack, DDR channel)"
    )
    memory_phy_gbps: PositiveNumber = Field(description="bandwidth of such a device")
    other_share: Number = Field(
        description="what is none of these (host interface, clock, pads, gaps), as a share of them"
    )


class Technology(_Section):
    """A process: what things cost in it. All numbers carry their origin; what is made of them is an estimate."""

    name: Name = Field(description="name of the technology")
    description: str = Field(min_length=1, description="what it is, in a sentence")
    energy: EnergyCosts
    area: AreaCosts

    def operation(self, primitive: str, dtype: str) -> Number:
        """Energy of a primitive operation on one element; ConfigError when the technology does not price it."""
        kind = KIND_OF_PRIMITIVE.get(primitive)
        if kind is None:
            raise ConfigError(
                f"primitive {primitive!r} has no kind; there are: {', '.join(KIND_OF_PRIMITIVE)}", self.name
            )
        return self._priced(self.energy.operation_pj.get(kind, {}), dtype, f"energy.operation_pj.{kind}")

    def multiply_add(self, dtype: str) -> Number:
        """Energy of a multiply-add of the cube; ConfigError when the technology does not price it."""
        return self._priced(self.energy.multiply_add_pj, dtype, "energy.multiply_add_pj")

    def multiply_add_area(self, dtype: str) -> Number:
        """Area of a multiply-add of the cube; ConfigError when the technology does not price it."""
        return self._priced(self.area.multiply_add_um2, dtype, "area.multiply_add_um2")

    def extension_area(self, timing: str) -> Number:
        """Area of what a timing class of extensions needs; ConfigError when the technology does not price it."""
        return self._priced(self.area.extension_um2, timing, "area.extension_um2")

    def sram_byte(self, kib: float) -> Number:
        """Energy of a byte of an array of `kib` KiB.

        Between two capacities of the file, and beyond the largest, the energy is a power of the capacity; an array below the
        smallest costs as that one. The error is the larger one of the two neighbours.
        """
        table = self.energy.sram_pj_per_byte
        sizes = sorted(table)
        if kib <= sizes[0]:
            return table[sizes[0]]
        above = next((i for i, size in enumerate(sizes) if size >= kib), len(sizes) - 1)
        low, high = sizes[above - 1], sizes[above]
        near, far = table[low], table[high]
        slope = log(far.value / near.value) / log(high / low)
        worse = max(near, far, key=lambda number: number.error)
        return Number(
            value=near.value * exp(slope * log(kib / low)),
            source=f"power law through {low} and {high} KiB",
            trust=worse.trust,
            error_pct=worse.error * 100,
        )

    def _priced(self, table: Mapping[str, Number], key: str, field: str) -> Number:
        found = table.get(key)
        if found is None:
            priced = ", ".join(table) or "none"
            raise ConfigError(f"{field} prices no {key}; it prices: {priced}", f"technology {self.name}")
        return found


def load_technology(name_or_path: str | Path) -> Technology:
    """The technology of a file, or of a shipped one's name ("n7"). Raise ConfigError with one line per fault.

    What ends in .yaml or .yml or has a folder in it is a file.
    """
    path = Path(name_or_path)
    if not (path.suffix in (".yaml", ".yml") or len(path.parts) > 1):
        path = find_resource("technology", str(name_or_path), ConfigError)
    return _build(load_yaml(path, ConfigError))


def parse_technology(text: str, name: str = "<text>") -> Technology:
    """The technology of a YAML text; `name` stands for the file in errors. See `load_technology`."""
    return _build(parse_yaml(text, name, ConfigError))


def _build(document: Document) -> Technology:
    try:
        return Technology.model_validate(document.data)
    except ValidationError as exc:
        raise ConfigError("\n".join(dict.fromkeys(_explain(exc, document)))) from None


def _explain(exc: ValidationError, document: Document) -> Iterator[str]:
    """One line per fault: place, field path, value, what is wrong with it."""
    for error in exc.errors(include_url=False):
        # Keys of mappings are part of the path; pydantic marks a faulty key itself with "[key]".
        path = tuple(part for part in error["loc"] if part != "[key]")
        shown = "" if isinstance(error["input"], (dict, Technology)) else f" = {error['input']!r}"
        field = ".".join(str(part) for part in path) or "the file"
        yield f"{document.where(path)}: {field}{shown}: {error['msg']}"
