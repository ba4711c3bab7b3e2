"""Whether a node has the inputs, outputs and attributes that ONNX says of its operator, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
from onnx import defs

from npuvm.compiler.errors import CompileError

if TYPE_CHECKING:
    from npuvm.compiler.frontends.onnx.operator import Operator

__all__ = ["check_node"]

_ANY_NUMBER = (1 << 31) - 1


class _Form(NamedTuple):
    """How many inputs and outputs an operator has, from and to; its attributes by name: their type, whether it needs them.

    `needed` are the places of inputs that no node leaves out.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    needed: tuple[int, ...]
    attributes: Mapping[str, tuple[str, bool]]


@lru_cache
def _form(op: str, since: int, domain: str) -> _Form | None:
    """The form of an operator; None where ONNX knows none."""
    if not defs.has(op, since, domain):
        return None
    schema: Any = defs.get_schema(op, since, domain)  # the stubs of onnx lack names of types
    attributes = {name: (each.type.name, each.required) for name, each in schema.attributes.items()}
    inputs, outputs = (schema.min_input, schema.max_input), (schema.min_output, schema.max_output)
    single = defs.OpSchema.FormalParameterOption.Single
    needed = tuple(at for at, each in enumerate(schema.inputs) if each.option == single)
    return _Form(inputs, outputs, needed, attributes)


def check_node(operator: Operator) -> None:
    """CompileError for a node that is none of its operator, saying what is allowed. What ONNX does not know is left alone."""
    form = None if operator.is_function else _form(operator.type, operator.since, operator.node.domain)
    if form is None:
        return
    node, where = operator.node, operator.source
    for what, names, (least, most) in (("inputs", node.input, form.inputs), ("outputs", node.output, form.outputs)):
        count = max((at for at, name in enumerate(names, start=1) if name), default=0)
        if len(names) < least or count > most:
            allowed = (
                f"{least} at least" if most == _ANY_NUMBER else f"{least}" if least == most else f"{least} to {most}"
            )
            raise CompileError(f"{operator.type} has {len(names)} {what}; allowed: {allowed}", where)
    for at in form.needed:
        if at < len(node.input) and not node.input[at]:
            raise CompileError(f"{operator.type} needs input {at}, which is left out", where)
    _check_attributes(operator, form)


def _check_attributes(operator: Operator, form: _Form) -> None:
    given = {each.name: each for each in operator.node.attribute}
    for name, each in given.items():
        if name not in form.attributes:
            known = ", ".join(form.attributes) or "none"
            raise CompileError(f"{operator.type} has no attribute '{name}'; allowed: {known}", operator.source)
        wanted = form.attributes[name][0]
        found = onnx.AttributeProto.AttributeType.Name(each.type)
        if found not in (wanted, "UNDEFINED"):
            message = f"{operator.type}: attribute '{name}' is {found}; allowed: {wanted}"
            raise CompileError(message, operator.source)
    for name, (_, needed) in form.attributes.items():
        if needed and name not in given:
            raise CompileError(f"{operator.type} has no attribute '{name}', which it needs", operator.source)
