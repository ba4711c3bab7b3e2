"""How the dtypes of models are carried on the device, whose own are fewer."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CARRIERS", "NARROWED"]

CARRIERS: Mapping[str, str] = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
    "float8_e4m3fnuz": "fp16",
    "float8_e5m2fnuz": "fp16",
    "float4_e2m1fn": "fp16",
    "int32": "int32",
    "int8": "int8",
    "bool": "bool",
    "int64": "int32",
    "int16": "int32",
    "uint16": "int32",
    "uint8": "int32",
    "int4": "int8",
    "uint4": "int8",
    "int2": "int8",
    "uint2": "int8",
}
"""The device's dtype for a model's dtype, by numpy's name. A dtype that is not here stays on the host."""

NARROWED = ("int64",)
"""Dtypes whose values may not fit their carrier: they are checked on the way to the device."""
