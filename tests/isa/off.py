"""The instruction set with a feature that is switched off, for tests of what is off."""

from __future__ import annotations

import re

from npuvm.isa import Isa, load_isa_text
from npuvm.isa.resources import find_resource

__all__ = ["isa_without"]


def isa_without(feature: str) -> Isa:
    """The base set, whose feature of this name is off."""
    text = find_resource("isa", "npu_v1").read_text(encoding="utf-8")
    text, replaced = re.subn(rf"^(  {feature}: {{default: )\w+", r"\1false", text, flags=re.MULTILINE)
    assert replaced == 1
    return load_isa_text(text)
