"""The printed SystemVerilog of a small instruction set, as a person has read it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from tests.isa.generate.sets import HERE, TINY

from npuvm.isa import Isa
from npuvm.isa.generate import decoder_sv, package_sv

GOLDEN = HERE / "golden"


@pytest.mark.parametrize(("name", "emit"), [("npu_isa_pkg.sv", package_sv), ("npu_decoder.sv", decoder_sv)])
def test_text_is_the_one_that_was_read(name: str, emit: Callable[[Isa], str]) -> None:
    """Rewrite the files with NPUVM_REWRITE=1 and read the difference."""
    text = emit(TINY)
    if os.environ.get("NPUVM_REWRITE"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert (GOLDEN / name).read_text(encoding="utf-8") == text


def test_it_is_assigns_and_wires_and_nothing_else() -> None:
    body = re.sub(r"//.*", "", decoder_sv(TINY)).split(");\n", 1)[1]
    statements = [statement.split()[0] for statement in body.split(";")]
    assert len(statements) > 100
    assert set(statements) == {"wire", "assign", "endmodule"}
