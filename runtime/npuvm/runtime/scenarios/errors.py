"""What pydantic finds wrong in a scenario file, as one line that says where it is, what is wrong and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from npuvm.hw.errors import ConfigError
from npuvm.isa.yaml_strict import Document, YamlPath

__all__ = ["first_error"]


def first_error(
    document: Document, exc: ValidationError, schema: Mapping[str, Any], what: str = "scenario"
) -> ConfigError:
    """The first thing wrong, as "file:line:column: field: what, what is allowed"; `schema` is the JSON Schema of the file.

    `what` is what the file describes.
    """
    errors = exc.errors(include_url=False)
    # a misspelt field is both unknown and missing; the unknown one stands on a line of the file
    error = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    loc, kind, context = error["loc"], error["type"], error.get("ctx", {})
    if kind.startswith("union_tag"):
        loc = (*loc, str(context["discriminator"]).strip("'"))
    is_missing = kind in ("missing", "union_tag_not_found")
    path = _field_path(document.data, loc, is_missing or kind == "extra_forbidden")
    field = ""
    for part in path:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = f"{field.lstrip('.') or what}: {_message(error, schema)}"
    return ConfigError(message, document.where(path))


def _message(error: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    kind, context, loc = error["type"], error.get("ctx", {}), error["loc"]
    if kind == "extra_forbidden":
        names = _fields(schema, loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), names, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"no such field{hint}" + (f"; allowed here: {', '.join(names)}" if names else "")
    if kind == "union_tag_invalid":
        return f"{context['tag']!r}; allowed are {context['expected_tags'].replace(chr(39), '')}"
    if kind == "union_tag_not_found":
        return f"missing; allowed are {', '.join(_at(schema, loc)['discriminator']['mapping'])}"
    if kind == "missing":
        return "missing"
    if kind in ("too_long", "too_short"):
        bound = f"at most {context['max_length']}" if kind == "too_long" else f"at least {context['min_length']}"
        return f"{context['actual_length']} entries; allowed are {bound}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        names = _fields(schema, loc)
        return f"{error['input']!r}; allowed is a mapping" + (f" with {', '.join(names)}" if names else "")
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return message if isinstance(error["input"], dict | list) else f"{message}, not {error['input']!r}"


def _fields(schema: Mapping[str, Any], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that the place of an error may have, in the order of the schema."""
    return list(_at(schema, loc).get("properties", {}))


def _at(schema: Mapping[str, Any], loc: tuple[int | str, ...]) -> Mapping[str, Any]:
    """The part of the schema that a location of pydantic leads to, through fields, entries and tags of unions."""
    node = _resolve(schema, schema)
    for part in loc:
        tags = node.get("discriminator", {}).get("mapping", {})
        if part in tags:
            node = {"$ref": tags[part]}
        elif isinstance(part, int):
            entries = node.get("prefixItems", [])
            node = entries[part] if part < len(entries) else node.get("items", {})
        else:
            node = node.get("properties", {}).get(part, node.get("additionalProperties", {}))
        node = _resolve(schema, node)
    return node


def _resolve(schema: Mapping[str, Any], node: Any) -> Mapping[str, Any]:
    while isinstance(node, dict) and "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node if isinstance(node, dict) else {}


def _field_path(data: Any, loc: tuple[int | str, ...], last_is_field: bool) -> YamlPath:
    """Path of an error in the file: pydantic's location without the tags of the unions it went through.

    The last part of a location may be a field that is not in the file (`last_is_field`).
    """
    path: list[int | str] = []
    kind = data.get("kind") if isinstance(data, dict) else None
    for index, part in enumerate(loc):
        if index == 0 and part == kind:  # a tag, even where a field has that name too
            continue
        children = dict(enumerate(data)) if isinstance(data, list) else data
        if isinstance(children, dict) and part in children:
            data = children[part]
        elif not last_is_field or index < len(loc) - 1:
            continue
        path.append(part)
    return tuple(path)
