"""The instruction sets that the generators are tried on."""

from __future__ import annotations

from pathlib import Path

from npuvm.isa import Isa, load_isa, load_isa_text
from npuvm.isa.resources import list_resources

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TINY_FILE = HERE / "tiny.yaml"
TINY = load_isa(TINY_FILE)
BASE = load_isa()

_HEAD = """head:
  mask: "3:0"
  order: "10:10"
  set1: "7:4"
  pred: "13:11"
  opcode: "63:56"
  length: "9:8"
  dtype: "55:53"
  wait0: "17:14"
  wait1: "21:18"
  set0: "25:22"
"""
_TINY = TINY_FILE.read_text(encoding="utf-8")
ODD_HEAD = (_TINY[: _TINY.index("head:")] + _HEAD + _TINY[_TINY.index("predicates:") :]).replace(
    'unit: {bits: "0:63:61"', 'unit: {bits: "0:52:50"'
)
"""The small set with its head's fields in another order, with gaps, and the opcode on top."""

SETS: dict[str, Isa] = {
    "base": BASE,
    "tiny": TINY,
    "odd head": load_isa_text(ODD_HEAD),
    **{name: load_isa(extensions=[name]) for name in list_resources("extension")},
    "all": load_isa(extensions=list_resources("extension")),
}
