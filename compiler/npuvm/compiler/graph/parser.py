"""Reads the printed form of a graph; types are inferred again and must agree with the text."""

from __future__ import annotations

import json
import re

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import PART_KTYPES, Graph, Node, Param, Part
from npuvm.compiler.graph.ops import Attr
from npuvm.compiler.graph.sums import Computed, parse_sum
from npuvm.compiler.graph.symbols import Check, Derived, Product, product
from npuvm.compiler.graph.types import TensorType, parse_dims, parse_type
from npuvm.compiler.language.allowed import Allowance
from npuvm.compiler.language.kinds import check_ktype, check_operators
from npuvm.compiler.stack.kind_parts import cut_parts

__all__ = ["parse_graph"]

_PARAM = re.compile(r"param (\w+) : (.+)\Z")
_DERIVED = re.compile(r"derived (\w+) = ([^/=]+) / ([^/=]+)\Z")
_COMPUTED = re.compile(r"derived (\w+) = (\w+)\((.*)\)\Z")
_ALLOW = re.compile(r"allow (contract)?(?:, )?(?:approx_ulp = ([\d.e+-]+))?\Z")
_KTYPE = re.compile(r"ktype (\w+)\Z")
_PART = re.compile(r"part (\w+)\Z")
_CHECK = re.compile(r"check ([^=]+) == ([^=]+)\Z")
_STORE = re.compile(r"store %(\d+) -> @(\w+)(?: \{(.*)\})? : (.+)\Z")
_NODE = re.compile(r"%(\d+) = (\w+)(.*) : ([^:{}]+)\Z")
_ATTR = re.compile(r'\s*(\w+) = ("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^,\s"\[]+)\s*(?:,|\Z)')
_ATTRS_TAIL = re.compile(r"\s\{(\w+ = .*)\}\Z")


def parse_graph(text: str, source: str = "<text>") -> Graph:
    """A graph from its printed form; blank lines and `#` comment lines are allowed.

    Raises CompileError with `source:line` on text that is not a well-typed graph.
    """
    return _Parser(text, source).graph()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._lines = text.splitlines()
        self._source = source
        self._number = 0
        self._values: dict[int, Node] = {}

    def graph(self) -> Graph:
        header = re.match(r"kernel (\w+) \{\Z", self._next())
        if header is None:
            raise self._error("a graph starts with 'kernel NAME {'")
        graph = Graph(header.group(1))
        while (line := self._next()) != "}":
            try:
                self._line(graph, line)
            except CompileError as error:
                if error.where is not None:
                    raise
                raise self._error(error.message) from None
        check_operators(graph)
        cut_parts(graph)
        return graph

    def _next(self) -> str:
        while self._number < len(self._lines):
            line = self._lines[self._number].strip()
            self._number += 1
            if line and not line.startswith("#"):
                return line
        raise self._error("the text ends before '}'")

    def _line(self, graph: Graph, line: str) -> None:
        if match := _PARAM.match(line):
            graph.params = (*graph.params, Param(match.group(1), parse_type(match.group(2))))
        elif match := _DERIVED.match(line):
            graph.derived.append(Derived(match.group(1), self._product(match.group(2)), self._product(match.group(3))))
        elif match := _COMPUTED.match(line):
            args = tuple(parse_sum(each) for each in match.group(3).split(","))
            graph.derived.append(Computed(match.group(1), match.group(2), args))
        elif match := _ALLOW.match(line):
            ulp = 0.0 if match.group(2) is None else self._attr(match.group(2))
            graph.allowed = Allowance(match.group(1) is not None, ulp if isinstance(ulp, int | float) else 0.0)
        elif match := _KTYPE.match(line):
            graph.ktype = check_ktype(match.group(1))
        elif match := _PART.match(line):
            ktype = check_ktype(match.group(1), PART_KTYPES)
            graph.parts.append(Part(len(graph.nodes), ktype, where=f"{self._source}:{self._number}"))
        elif match := _CHECK.match(line):
            graph.checks.append(Check(self._product(match.group(1)), self._product(match.group(2))))
        elif match := _STORE.match(line):
            attrs = {**self._attrs(match.group(3) or ""), "output": match.group(2)}
            self._add(graph, "store", (self._value(match.group(1)),), attrs, parse_type(match.group(4)))
        elif match := _NODE.match(line):
            node = self._node(graph, match.group(2), match.group(3), parse_type(match.group(4)))
            if node.id != int(match.group(1)):
                raise self._error(f"value %{match.group(1)} must be numbered %{node.id}")
        else:
            raise self._error(f"cannot read '{line}'")

    def _node(self, graph: Graph, op: str, rest: str, declared: TensorType) -> Node:
        attrs: dict[str, Attr] = {}
        if tail := _ATTRS_TAIL.search(rest):
            attrs, rest = self._attrs(tail.group(1)), rest[: tail.start()]
        rest = rest.strip()
        if op == "load":
            name = rest.removeprefix("@")
            param = next((each for each in graph.params if each.name == name), None)
            if param is None:
                raise self._error(f"no parameter '{name}'")
            attrs |= {"param": name, "dtype": param.type.dtype, "shape": param.type.shape}
            return self._add(graph, op, (), attrs, declared)
        if op == "const":
            attrs |= {"dtype": declared.dtype, "value": self._attr(rest)}
            return self._add(graph, op, (), attrs, declared)
        if op == "size":
            attrs |= {"dtype": declared.dtype, "dims": parse_dims(rest.strip("[]"))}
            return self._add(graph, op, (), attrs, declared)
        inputs = tuple(self._value(part.strip().removeprefix("%")) for part in rest.split(",") if part.strip())
        return self._add(graph, op, inputs, attrs, declared)

    def _add(
        self, graph: Graph, op: str, inputs: tuple[Node, ...], attrs: dict[str, Attr], declared: TensorType
    ) -> Node:
        node = graph.add(op, inputs, f"{self._source}:{self._number}", **attrs)
        if node.type != declared:
            raise self._error(f"{op} gives {node.type}, the text says {declared}")
        self._values[node.id] = node
        return node

    def _value(self, number: str) -> Node:
        if not number.isdigit() or int(number) not in self._values:
            raise self._error(f"no value %{number} before this line")
        return self._values[int(number)]

    def _product(self, text: str) -> Product:
        return product([dim for part in text.split("*") for dim in parse_dims(part)])

    def _attrs(self, text: str) -> dict[str, Attr]:
        attrs: dict[str, Attr] = {}
        at = 0
        while at < len(text):
            match = _ATTR.match(text, at)
            if match is None:
                raise self._error(f"cannot read the attributes '{text[at:]}'")
            attrs[match.group(1)] = self._attr(match.group(2))
            at = match.end()
        return attrs

    def _attr(self, text: str) -> Attr:
        if text in ("true", "false"):
            return text == "true"
        if text.startswith("["):
            return parse_dims(text[1:-1])
        try:
            if text.startswith('"'):
                return str(json.loads(text))
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        except ValueError:
            raise self._error(f"'{text}' is no number, string, list, true or false") from None

    def _error(self, message: str) -> CompileError:
        return CompileError(message, f"{self._source}:{self._number}")
