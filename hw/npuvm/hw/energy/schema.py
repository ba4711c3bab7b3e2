"""JSON Schema of a technology file, for editors and for checking files outside Python."""

from __future__ import annotations

from typing import Any

from npuvm.hw.energy.technology import Technology

__all__ = ["technology_json_schema"]


def technology_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a technology file. What it accepts `load_technology` accepts, but for infinite numbers."""
    schema = Technology.model_json_schema()
    _close_mappings(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "npuvm technology"}


def _close_mappings(node: Any) -> None:
    """Refuse the keys that a mapping's pattern does not fit; pydantic's own schema leaves them unchecked."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        for child in node.values():
            _close_mappings(child)
