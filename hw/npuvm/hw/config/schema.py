"""JSON Schema of a chip file, for editors and for checking files outside Python."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, get_args

import annotated_types as at
from pydantic.fields import FieldInfo

from npuvm.hw.config.model import NpuConfig, Section, Trust

__all__ = ["chip_json_schema"]

_BOUNDS = {at.Ge: ("ge", "minimum"), at.Gt: ("gt", "exclusiveMinimum"), at.Le: ("le", "maximum")}


def chip_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a chip file. Every number may stand plain or as {value, source, trust}.

    Rules between fields are beyond JSON Schema; only `load_chip` checks those.
    """
    schema = NpuConfig.model_json_schema()
    models = {model.__name__: model for model in Section.__subclasses__()}
    for name, part in (("NpuConfig", schema), *schema["$defs"].items()):
        part.pop("title", None)
        for key, field in models[name].model_fields.items():
            plain = _rational(field) if field.annotation is Fraction else part["properties"][key]
            part["properties"][key] = _with_origin(plain)
    schema["$defs"]["Trust"] = {"enum": list(get_args(Trust)), "description": "how far the number is trusted"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "npuvm chip", **schema}


def _rational(field: FieldInfo) -> dict[str, Any]:
    """A number within the field's bounds, or "a/b"; pydantic's own schema of a Fraction differs between its versions."""
    number: dict[str, Any] = {"type": "number"}
    for bound in field.metadata:
        if type(bound) in _BOUNDS:
            attribute, keyword = _BOUNDS[type(bound)]
            number[keyword] = getattr(bound, attribute)
    ratio = {"type": "string", "pattern": r"^([0-9]+/[1-9][0-9]*|[0-9]+(\.[0-9]+)?)$"}
    default = {} if field.is_required() else {"default": float(field.default)}
    return {"description": field.description, **default, "anyOf": [number, ratio]}


def _with_origin(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field, with {value, source, trust} allowed beside each of its numbers."""
    field = {key: value for key, value in field.items() if key != "title"}
    about: dict[str, Any] = {key: field.pop(key) for key in ("description", "default") if key in field}
    if "patternProperties" in field:  # a mapping with keys of the file's choice
        entries = {pattern: _with_origin(entry) for pattern, entry in field["patternProperties"].items()}
        return {**about, **field, "patternProperties": entries, "additionalProperties": False}
    options = field.get("anyOf", [field])
    if not any(option.get("type") in ("integer", "number") for option in options):
        return {**about, **field}
    origin = {
        "type": "object",
        "properties": {
            "value": options[0] if len(options) == 1 else {"anyOf": options},
            "source": {"type": "string", "minLength": 1, "description": "where the number comes from"},
            "trust": {"$ref": "#/$defs/Trust"},
        },
        "required": ["value", "source", "trust"],
        "additionalProperties": False,
    }
    return {**about, "anyOf": [*options, origin]}
