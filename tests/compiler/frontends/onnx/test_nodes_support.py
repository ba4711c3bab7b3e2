"""The page of operators agrees with the rules."""

from __future__ import annotations

from pathlib import Path

from onnx import defs

from npuvm.compiler.frontends.onnx import RULES, SIZE_RULES
from npuvm.compiler.frontends.onnx.support import LIMITS, operators_page

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "onnx-operators.md"


def test_the_page_is_what_the_rules_say() -> None:
    made = operators_page()
    assert PAGE.read_text(encoding="utf-8") == made, "run python -m npuvm.compiler.frontends.onnx.support"
    for domain, name in RULES:
        if not domain and not defs.get_schema(name).deprecated:
            assert f"\n| {name} | device |" in made or LIMITS[name].startswith("host: ")


def test_limits_are_of_operators_that_have_rules() -> None:
    known = {name for _, name in (*RULES, *SIZE_RULES)}
    assert set(LIMITS) <= known
