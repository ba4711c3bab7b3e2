"""npuvm's compiler: kernels to graphs, graphs to segments, segments to images."""

from __future__ import annotations

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Graph, Node, Output, Param
from npuvm.compiler.graph.parser import parse_graph
from npuvm.compiler.graph.printer import print_graph, print_node
from npuvm.compiler.graph.types import DTYPES, DTypeInfo, TensorType, parse_type
from npuvm.compiler.interpreter.interpret import interpret
from npuvm.compiler.language.allowed import Allowance
from npuvm.compiler.language.kernel import Kernel, KernelBuilder, kernel
from npuvm.compiler.language.kinds import KTYPES
from npuvm.compiler.language.pins import Events, Pins
from npuvm.compiler.language.value import ParamRef, Value
from npuvm.compiler.native.loading import load_native
from npuvm.compiler.program.compiled import CompiledKernel
from npuvm.compiler.program.kinds import compile_kernel
from npuvm.compiler.stack.compile import compile_stack
from npuvm.compiler.stack.kernels import Renamed, Stack, parallel, renamed, sequence

__all__ = [
    "DTYPES",
    "KTYPES",
    "Allowance",
    "CompileError",
    "CompiledKernel",
    "DTypeInfo",
    "Events",
    "Graph",
    "Kernel",
    "KernelBuilder",
    "Node",
    "Output",
    "Param",
    "ParamRef",
    "Pins",
    "Renamed",
    "Stack",
    "TensorType",
    "Value",
    "compile_kernel",
    "compile_stack",
    "interpret",
    "kernel",
    "load_native",
    "parallel",
    "parse_graph",
    "parse_type",
    "print_graph",
    "print_node",
    "renamed",
    "sequence",
]
