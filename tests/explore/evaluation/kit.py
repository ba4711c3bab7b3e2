"""Small models and spaces on the chip edge, and chips whose numbers are drawn."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from npuvm.explore.space import Space, load_space
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import ConfigError

MLP = """<ir_version: 10, opset_import: ["" : 18]>
mlp (float16[rows, 64] x, float16[64, 128] a, float16[128, 64] b) => (float16[rows, 64] y)
{
  h = MatMul (x, a)
  r = Relu (h)
  z = MatMul (r, b)
  s = Softmax <axis = -1> (z)
  y = Add (s, x)
}
"""

ATTENTION = """<ir_version: 10, opset_import: ["" : 18]>
attention (float16[heads, rows, 32] q, float16[heads, keys, 32] k, float16[heads, keys, 32] v,
  float16[1000, 32] table, int64[rows] places) => (float16[heads, rows, 32] y)
{
  t = Transpose <perm = [0, 2, 1]> (k)
  z = MatMul (q, t)
  s = Softmax <axis = -1> (z)
  m = MatMul (s, v)
  picked = Gather (table, places)
  y = Add (m, picked)
}
"""

CONVOLUTION = """<ir_version: 10, opset_import: ["" : 18]>
convolution (float16[images, 16, side, side] x, float16[32, 16, 3, 3] w) => (float16[images, 32, outer, outer] y)
{
  c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)
  y = Relu (c)
}
"""

CACHE = """<ir_version: 10, opset_import: ["" : 18]>
cache (float16[heads, 1, 32] q, float16[heads, past, 32] before, float16[heads, 1, 32] k) => (float16[heads, 1, total] y)
{
  all = Concat <axis = 1> (before, k)
  t = Transpose <perm = [0, 2, 1]> (all)
  y = MatMul (q, t)
}
"""

MODELS = {"mlp": MLP, "attention": ATTENTION, "convolution": CONVOLUTION, "cache": CACHE}

SIZES: dict[str, dict[str, Any]] = {
    "mlp": {"rows": [16, 100]},
    "attention": {"heads": 2, "rows": 33, "keys": [48, 96]},
    "convolution": {"images": 1, "side": [15, 28]},
    "cache": {"heads": 3, "past": [70, 300]},
}

PARAMETERS: dict[str, Any] = {
    "core.ub_kib": [64, 128],
    "core.cube.m": [8, 16],
    "memory.hbm.bandwidth_gbps": [12.8, 25.6],
}


def model_file(folder: Path, name: str = "mlp") -> Path:
    """A model's text as a file."""
    path = folder / f"{name}.onnxtxt"
    path.write_text(MODELS[name], encoding="utf-8")
    return path


def make_space(folder: Path, **changes: Any) -> Space:
    """A space of eight points for latency and area of the small model, with other fields where they are given."""
    fields: dict[str, Any] = {
        "name": "small",
        "title": "a small space",
        "chip": "edge",
        "parameters": PARAMETERS,
        "workloads": [{"name": "mlp", "model": str(model_file(folder)), "sizes": SIZES["mlp"]}],
        "objectives": [{"measure": "latency_us"}, {"measure": "area_mm2"}],
    }
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({**fields, **changes}, sort_keys=False), encoding="utf-8")
    return load_space(path)


_DRAWN: dict[str, tuple[Any, ...]] = {
    "clock_ghz": (0.4, 0.8, 1.6),
    "core.count": (1, 2, 3, 4),
    "core.ub_kib": (32, 64, 128, 200),
    "core.l1_kib": (64, 128, 256),
    "core.l0a_kib": (16, 32, 64),
    "core.l0b_kib": (16, 32, 64),
    "core.l0c_kib": (32, 64, 128),
    "core.cube.m": (8, 16),
    "core.cube.n": (8, 16),
    "core.cube.k_bytes": (16, 32, 64),
    "core.cube.startup_cycles": (1, 4, 20),
    "core.vector.repeat_bytes": (64, 128, 256),
    "core.sequencer.queue_depth": (2, 8),
    "core.sequencer.dispatch_cycles": (0, 1, 4),
    "core.load.ub_bytes_per_cycle": (16, 64),
    "core.load.l1_bytes_per_cycle": (16, 128),
    "core.load.outstanding": (4, 64),
    "core.store.bytes_per_cycle": (16, 64),
    "core.fixpipe.gm_bytes_per_cycle": (0, 16, 64),
    "core.fixpipe.ub_bytes_per_cycle": (32, 64),
    "memory.l2.capacity_mib": (1, 8),
    "memory.l2.bandwidth_gbps": (51.2, 409.6),
    "memory.l2.latency_cycles": (1, 30),
    "memory.hbm.bandwidth_gbps": (3.2, 25.6, 409.6),
    "memory.hbm.latency_cycles": (0, 90),
    "memory.hbm.channels": (1, 2, 8),
    "host.launch_us": (0, 0.5, 5),
    "host.start_latency_us": (0, 2),
}


def drawn_chip(seed: int) -> NpuConfig:
    """A chip like edge, of which a third of the numbers are others."""
    rng = random.Random(seed)
    while True:
        drawn = {name: rng.choice(values) for name, values in _DRAWN.items() if rng.random() < 1 / 3}
        try:
            return load_chip("edge", [f"{name}={value}" for name, value in drawn.items()])
        except ConfigError:
            continue
