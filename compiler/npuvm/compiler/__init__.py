"""npuvm's compiler: kernels to graphs, graphs to segments, segments to images."""

from __future__ import annotations

from .allowed import Allowance
from .builder import Kernel, KernelBuilder, kernel
from .errors import CompileError
from .interpreter import interpret
from .ir import Graph, Node, Output, Param
from .parser import parse_graph
from .printer import print_graph, print_node
from .program import CompiledKernel, compile_kernel
from .schedule import Events, Pins
from .types import DTYPES, DTypeInfo, TensorType, parse_type
from .value import ParamRef, Value

__all__ = [
    "DTYPES",
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
    "TensorType",
    "Value",
    "compile_kernel",
    "interpret",
    "kernel",
    "parse_graph",
    "parse_type",
    "print_graph",
    "print_node",
]
