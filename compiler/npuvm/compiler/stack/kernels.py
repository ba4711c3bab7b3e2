"""Kernels stacked by hand: `parallel` runs independent ones side by side, `sequence` one after the other, in one launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Graph, Output, Param
from npuvm.compiler.language.kernel import Kernel
from npuvm.compiler.stack.kind_parts import cut_parts

if TYPE_CHECKING:
    from npuvm.compiler.graph.types import TensorType

__all__ = ["Renamed", "Stack", "names_of", "output_shapes", "parallel", "params_of", "renamed", "sequence", "stack_of"]


@dataclass(frozen=True, slots=True)
class Renamed:
    """A kernel whose parameters and outputs have other names in a stack."""

    kernel: Kernel | Stack
    names: Mapping[str, str] = field(default_factory=dict)

    def outer(self, name: str) -> str:
        """What the stack calls a parameter or output."""
        return self.names.get(name, name)


@dataclass(frozen=True, eq=False)
class Stack:
    """Kernels that run in one launch. `params` and `outputs` are those of the whole, by the names that join its members.

    `kind` is parallel or sequence. Compile it with `npuvm.compiler.compile_stack`, or run it as a kernel.
    """

    name: str
    kind: str
    members: tuple[Renamed, ...]
    params: tuple[Param, ...]
    outputs: tuple[Output, ...]


def renamed(kernel: Kernel | Stack, **names: str) -> Renamed:
    """A kernel for a stack; each keyword is one of its parameters or outputs, its value the name in the stack.

    CompileError for a name that the kernel does not have.
    """
    known = names_of(kernel)
    for name in names:
        if name not in known:
            raise CompileError(f"'{name}' is neither parameter nor output; there are: {', '.join(known)}", kernel.name)
    return Renamed(kernel, names)


def parallel(*kernels: Kernel | Stack | Renamed, name: str | None = None) -> Stack:
    """Kernels that do not depend on each other, in one launch; each gets cores in proportion to its estimated work.

    Parameters of one name are one tensor. CompileError when an output has the name of another output or of a parameter.
    """
    members = _members(kernels, "parallel")
    params, outputs = _Names(), _Names()
    for member in members:
        for param in params_of(member.kernel):
            params.join(member.outer(param.name), param.type, member)
    for member in members:
        for output in outputs_of(member.kernel):
            outputs.add(member.outer(output.name), output.type, member, params)
    return _stack("parallel", name, members, params, outputs)


def sequence(*kernels: Kernel | Stack | Renamed, name: str | None = None, keep: Sequence[str] = ()) -> Stack:
    """Kernels one after the other in one launch: a parameter with the name of an earlier kernel's output is that output.

    What a later kernel reads is workspace, unless it stands in `keep`; all other outputs are those of the whole. Kernels that
    do not depend on each other run at the same time. CompileError when two outputs have one name, or dtypes do not fit.
    """
    members = _members(kernels, "sequence")
    params, outputs = _Names(), _Names()
    used: set[str] = set()
    for member in members:
        for param in params_of(member.kernel):
            outer = member.outer(param.name)
            if outer in outputs.types:
                outputs.join(outer, param.type, member)
                used.add(outer)
            else:
                params.join(outer, param.type, member)
        for output in outputs_of(member.kernel):
            outputs.add(member.outer(output.name), output.type, member, params)
    for each in keep:
        if each not in outputs.types:
            raise CompileError(f"keep: no output '{each}'; there are: {', '.join(outputs.types)}", name or "sequence")
    for each in used - set(keep):
        del outputs.types[each]
    return _stack("sequence", name, members, params, outputs)


def stack_of(graph: Graph) -> Stack:
    """The parts of a kernel of kind parallel or sequence as a stack of kernels."""
    cut = cut_parts(graph)
    kernels = [Kernel(each) for each in cut.graphs]
    if graph.ktype == "parallel":
        return parallel(*kernels, name=graph.name)
    return sequence(*kernels, name=graph.name, keep=cut.kept)


def params_of(kernel: Kernel | Stack) -> tuple[Param, ...]:
    """Parameters of a kernel or stack."""
    return kernel.params if isinstance(kernel, Stack) else kernel.graph.params


def outputs_of(kernel: Kernel | Stack) -> tuple[Output, ...]:
    """Outputs of a kernel or stack."""
    return kernel.outputs if isinstance(kernel, Stack) else kernel.graph.outputs


def names_of(kernel: Kernel | Stack) -> list[str]:
    """Names of the parameters, then of the outputs."""
    return [*(each.name for each in params_of(kernel)), *(each.name for each in outputs_of(kernel))]


def output_shapes(kernel: Kernel | Stack, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the outputs for concrete shapes of the parameters. CompileError when they do not fit."""
    if isinstance(kernel, Kernel):
        return kernel.output_shapes(shapes)
    known = {name: tuple(shape) for name, shape in shapes.items()}
    for member in kernel.members:
        taken = {each.name: known[member.outer(each.name)] for each in params_of(member.kernel)}
        known |= {member.outer(name): shape for name, shape in output_shapes(member.kernel, taken).items()}
    return {each.name: known[each.name] for each in kernel.outputs}


class _Names:
    """Tensors of a stack by name, with their types."""

    def __init__(self) -> None:
        self.types: dict[str, TensorType] = {}

    def join(self, name: str, kind: TensorType, member: Renamed) -> None:
        """Note the use of a tensor, which must fit the uses before."""
        known = self.types.setdefault(name, kind)
        if (known.dtype, known.rank) != (kind.dtype, kind.rank):
            message = f"'{name}' is {known} and {kind} in one stack; the dtype and the number of dims must be the same"
            raise CompileError(message, member.kernel.name)

    def add(self, name: str, kind: TensorType, member: Renamed, params: _Names) -> None:
        """Note an output, whose name must be new."""
        if name in self.types or name in params.types:
            what = "an output" if name in self.types else "a parameter"
            message = f"output '{name}' has the name of {what} before; rename it: renamed(kernel, {name}=...)"
            raise CompileError(message, member.kernel.name)
        self.types[name] = kind


def _members(kernels: Sequence[Kernel | Stack | Renamed], kind: str) -> tuple[Renamed, ...]:
    if not kernels:
        raise CompileError(f"{kind} needs at least one kernel")
    members = tuple(each if isinstance(each, Renamed) else Renamed(each) for each in kernels)
    for each in members:
        if isinstance(each.kernel, Kernel) and each.kernel.graph.ktype == "eager":
            message = f"an eager kernel has no operators before its sizes are known, so it has no place in a {kind}"
            raise CompileError(f"{message}; allowed: kernels of other kinds", each.kernel.name)
    return members


def _stack(kind: str, name: str | None, members: tuple[Renamed, ...], params: _Names, outputs: _Names) -> Stack:
    label = name or f"{kind}_{'_'.join(each.kernel.name for each in members)}"
    inputs = tuple(Param(each, kind_of) for each, kind_of in params.types.items())
    return Stack(label, kind, members, inputs, tuple(Output(each, kind_of) for each, kind_of in outputs.types.items()))
