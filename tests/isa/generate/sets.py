"""The instruction sets that the generators are tried on."""

from __future__ import annotations

from pathlib import Path

from npuvm.isa import Isa, load_isa
from npuvm.isa.resources import list_resources

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TINY_FILE = HERE / "tiny.yaml"
TINY = load_isa(TINY_FILE)
BASE = load_isa()

SETS: dict[str, Isa] = {
    "base": BASE,
    "tiny": TINY,
    **{name: load_isa(extensions=[name]) for name in list_resources("extension")},
    "all": load_isa(extensions=list_resources("extension")),
}
