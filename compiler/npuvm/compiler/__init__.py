"""npuvm's compiler: kernels to graphs, graphs to segments, segments to images."""

from __future__ import annotations

from npuvm.compiler.allowed import Allowance
from npuvm.compiler.builder import Kernel, KernelBuilder, kernel
from npuvm.compiler.compile_kinds import compile_kernel
from npuvm.compiler.compiled import CompiledKernel
from npuvm.compiler.errors import CompileError
from npuvm.compiler.interpreter import interpret
from npuvm.compiler.ir import Graph, Node, Output, Param
from npuvm.compiler.kinds import KTYPES
from npuvm.compiler.parser import parse_graph
from npuvm.compiler.printer import print_graph, print_node
from npuvm.compiler.schedule import Events, Pins
from npuvm.compiler.stack_compile import compile_stack
from npuvm.compiler.stack_kernels import Renamed, Stack, parallel, renamed, sequence
from npuvm.compiler.types import DTYPES, DTypeInfo, TensorType, parse_type
from npuvm.compiler.value import ParamRef, Value

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
    "parallel",
    "parse_graph",
    "parse_type",
    "print_graph",
    "print_node",
    "renamed",
    "sequence",
]
