"""JSON Schema of a chip file, for editors and for checking files outside Python."""

from __future__ import annotations

from typing import Any, get_args

from npuvm.hw.config.model import NpuConfig, Trust

__all__ = ["chip_json_schema"]


def chip_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a chip file. Every number may stand plain or as {value, source, trust}.

    Rules between fields are beyond JSON Schema; only `load_chip` checks those.
    """
    schema = NpuConfig.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        model.pop("title", None)
        for name, field in model["properties"].items():
            model["properties"][name] = _with_origin(field)
    schema["$defs"]["Trust"] = {"enum": list(get_args(Trust)), "description": "how far the number is trusted"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "npuvm chip", **schema}


def _with_origin(field: dict[str, Any]) -> dict[str, Any]:
    field = {key: value for key, value in field.items() if key != "title"}
    about: dict[str, Any] = {key: field.pop(key) for key in ("description", "default") if key in field}
    if "additionalProperties" in field:
        return {**about, **field, "additionalProperties": _with_origin(field["additionalProperties"])}
    if "patternProperties" in field:
        entries = {pattern: _with_origin(entry) for pattern, entry in field["patternProperties"].items()}
        return {**about, **field, "patternProperties": entries, "additionalProperties": False}
    options = [_ratio(option) for option in field.get("anyOf", [field])]
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


def _ratio(option: dict[str, Any]) -> dict[str, Any]:
    """The text form of a rational number; JSON Schema's format names do not know it."""
    if option.get("format") == "fraction":
        return {"type": "string", "pattern": r"^([0-9]+/[1-9][0-9]*|[0-9]+(\.[0-9]+)?)$"}
    return option
