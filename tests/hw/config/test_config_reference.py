from __future__ import annotations

import os
from pathlib import Path

from npuvm.hw.config import chip_reference_markdown

PAGE = Path(__file__).resolve().parents[3] / "docs/reference/chip-config.md"


def test_the_reference_page_is_up_to_date() -> None:
    """`NPUVM_REWRITE=1 pytest tests/hw/config/test_config_reference.py` writes the page anew."""
    expected = chip_reference_markdown()
    if os.environ.get("NPUVM_REWRITE"):
        PAGE.write_text(expected, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == expected
