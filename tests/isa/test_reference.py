"""The reference page of the instruction set says what the instruction set says."""

from __future__ import annotations

import os
import re
from pathlib import Path

from npuvm.isa import isa_reference_markdown, load_isa
from npuvm.isa.verifier import RULES

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/isa.md"


def test_page_is_current() -> None:
    text = isa_reference_markdown(load_isa())
    if os.environ.get("NPUVM_REWRITE"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text, "run this test with NPUVM_REWRITE=1"


def test_page_names_every_instruction_of_an_extension() -> None:
    text = isa_reference_markdown(load_isa(extensions=["fma"]))
    assert (
        "| `vfma` | 0xc0 | `vtri` | fp32, fp16, bf16 |  | `dst = a * b + c`. Multiply and add, rounded once. |" in text
    )


def test_verifier_page_has_every_rule() -> None:
    text = (PAGE.parent / "verifier.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(RULES)
