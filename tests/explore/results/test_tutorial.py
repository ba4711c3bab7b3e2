"""The tutorial shows the space that it runs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]


def test_the_tutorial_shows_its_space_as_it_is() -> None:
    page = (ROOT / "docs" / "tutorials" / "explore.md").read_text(encoding="utf-8")
    shown = re.search(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert shown is not None
    file = (ROOT / "configs" / "space" / "tutorial.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(shown[1]) == yaml.safe_load(file)
