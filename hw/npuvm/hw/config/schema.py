"""JSON Schema of a chip file, for editors and for checking files outside Python."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, get_args

import annotated_types as at
from pydantic.fields import FieldInfo

from npuvm.hw.config.basics import MAX_ERROR_PCT, SameAs, Section, Trust
from npuvm.hw.config.layers import BASE_KEY
from npuvm.hw.config.model import NpuConfig

__all__ = ["chip_json_schema"]

_BOUNDS = {at.Ge: ("ge", "minimum"), at.Gt: ("gt", "exclusiveMinimum"), at.Le: ("le", "maximum")}


def chip_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a chip file. Every number may stand plain or as {value, source, trust, error_pct}.

    A file with a base needs a name and nothing more. Rules between fields are beyond JSON Schema; only `load_chip` checks
    those.
    """
    chip = NpuConfig.model_json_schema()
    parts = chip.pop("$defs")
    models = {model.__name__: model for model in Section.__subclasses__()}
    for name, part in (("NpuConfig", chip), *parts.items()):
        part.pop("title", None)
        for key, field in models[name].model_fields.items():
            plain = _rational(field) if field.annotation is Fraction else part["properties"][key]
            part["properties"][key] = _with_origin(plain)
            if any(isinstance(mark, SameAs) for mark in field.metadata):
                part["properties"][key].pop("default")
    whole = {"Chip": chip, **parts}
    trust = {"enum": list(get_args(Trust)), "description": "how far the number is trusted"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "npuvm chip",
        "if": {"type": "object", "required": [BASE_KEY]},
        "then": {"$ref": "#/$defs/ChipChanges"},
        "else": {"$ref": "#/$defs/Chip"},
        "$defs": {**whole, **_changes(whole), "Trust": trust},
    }


def _changes(whole: dict[str, Any]) -> dict[str, Any]:
    """The same sections under the names of a file with a base, in which no field of a section is needed."""
    text = json.dumps(whole)
    for name in whole:
        text = text.replace(f'"#/$defs/{name}"', f'"#/$defs/{name}Changes"')
    changes = {f"{name}Changes": part for name, part in json.loads(text).items()}
    for part in changes.values():
        part.pop("required", None)
    description = "the chip that this file builds on: a shipped chip's name, or a chip file from this file's folder"
    chip = changes["ChipChanges"]
    chip["properties"] = {
        BASE_KEY: {"description": description, "type": "string", "minLength": 1},
        **chip["properties"],
    }
    chip["required"] = [BASE_KEY, "name"]
    return changes


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
    """The schema of a field, with {value, source, trust, error_pct} allowed beside each of its numbers."""
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
            "error_pct": {
                "type": "number",
                "minimum": 0,
                "maximum": MAX_ERROR_PCT,
                "description": "error bar in percent of the value",
            },
        },
        "required": ["value", "source", "trust"],
        "additionalProperties": False,
    }
    return {**about, "anyOf": [*options, origin]}
