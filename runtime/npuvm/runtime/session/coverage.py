"""Where each operator of an ONNX model would run, and why, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from npuvm.compiler.graph.model import DeviceStep, HostStep, IfStep, LoopStep, Model, ScanStep
from npuvm.runtime.session.operators import owner_of, sources_of

if TYPE_CHECKING:
    import onnx

__all__ = ["PlacedOperator", "coverage_json", "coverage_of", "render_coverage", "render_summary"]

IMPORT = "import"
_WHY_IMPORT = "computed while the model is read: it has constants or sizes, or its result is not used"


@dataclass(frozen=True, slots=True)
class PlacedOperator:
    """A node of a model. `where` is device, host, control (its body has operators of its own) or import.

    `regions` are the graphs of the device that have it; `reason` says why it is not on the device.
    """

    source: str
    op: str
    where: str
    regions: tuple[str, ...] = ()
    reason: str = ""


def coverage_of(proto: onnx.ModelProto, model: Model) -> list[PlacedOperator]:
    """The nodes of a model in order, those of bodies after the operator that they belong to."""
    return list(_nodes(proto.graph, model))


def _nodes(graph: onnx.GraphProto, model: Model, prefix: str = "") -> Iterator[PlacedOperator]:
    sources = sources_of(graph, prefix)
    names = set(sources)
    regions: dict[str, dict[str, None]] = {}
    hosts: dict[str, HostStep] = {}
    control: dict[str, IfStep | LoopStep | ScanStep] = {}
    for step in model.steps:
        if isinstance(step, DeviceStep):
            for node in step.graph.nodes:
                if node.op not in ("load", "store", "const"):
                    regions.setdefault(owner_of(node.source, names), {})[step.name] = None
        elif isinstance(step, HostStep):
            hosts.setdefault(owner_of(step.source, names), step)
        elif isinstance(step, IfStep | LoopStep | ScanStep):
            control[owner_of(step.source, names)] = step
    for source, node in zip(sources, graph.node, strict=True):
        found = tuple(regions.get(source, ()))
        if source in hosts:
            inner = "" if hosts[source].source == source else f"{hosts[source].op} in it: "
            yield PlacedOperator(source, node.op_type, "host", found, inner + hosts[source].reason)
        elif source in control:
            yield PlacedOperator(source, node.op_type, "control", found, "the host runs its body, as often as it says")
            yield from _bodies(node, control[source], source)
        elif found:
            yield PlacedOperator(source, node.op_type, "device", found)
        else:
            yield PlacedOperator(source, node.op_type, IMPORT, (), _WHY_IMPORT)


def _bodies(node: onnx.NodeProto, step: IfStep | LoopStep | ScanStep, source: str) -> Iterator[PlacedOperator]:
    graphs = {attribute.name: attribute.g for attribute in node.attribute}
    if isinstance(step, IfStep):
        yield from _nodes(graphs["then_branch"], step.then_body, f"{source}/then/")
        yield from _nodes(graphs["else_branch"], step.else_body, f"{source}/else/")
    elif "body" in graphs:
        yield from _nodes(graphs["body"], step.body, f"{source}/")


def render_coverage(placed: Sequence[PlacedOperator]) -> Table:
    """A table with a row for each operator."""
    table = Table(title="operators", title_justify="left")
    for name in ("operator", "type", "where", "region", "why"):
        table.add_column(name, overflow="fold")
    for each in placed:
        table.add_row(each.source, each.op, each.where, ", ".join(each.regions), each.reason)
    return table


def render_summary(placed: Sequence[PlacedOperator]) -> Table:
    """A table of the types of operators, with the number in each place."""
    table = Table(title="by type", title_justify="left")
    table.add_column("type")
    places = [place for place in ("device", IMPORT, "control", "host") if any(each.where == place for each in placed)]
    for place in places:
        table.add_column(place, justify="right")
    counts = Counter((each.op, each.where) for each in placed)
    for op in sorted({each.op for each in placed}):
        table.add_row(op, *(str(counts[op, place] or "") for place in places))
    return table


def coverage_json(placed: Sequence[PlacedOperator]) -> list[dict[str, Any]]:
    """The same for a file."""
    return [
        {"operator": e.source, "type": e.op, "where": e.where, "regions": list(e.regions), "reason": e.reason}
        for e in placed
    ]
