"""Templates: an instance has the words that the same instructions have when they are encoded with plain numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compiler.vector_run import the_isa

from npuvm.compiler import CompileError
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import changed
from npuvm.compiler.emit.symint import SymInt, ceil_div
from npuvm.compiler.emit.template import Template

CAPACITIES = {"ub": 1 << 18}
VARIABLES = ("n", "tile")


def write(n: int, tile: int) -> InstrBuilder:
    """A program that copies n elements in tiles, for plain sizes or for sizes that are not known yet."""
    b = InstrBuilder(the_isa(), CAPACITIES, "copy", 2)
    ring = b.ring("x", "ub", tile * 4, 2, "load", "store")
    assert ring.ready is not None
    assert ring.free is not None
    trips = ceil_div(n, tile)
    with b.grid([trips]) as (loop,):
        cols = b.size_tail(loop, tile, n - (trips - 1) * tile)
        one = b.size(1)
        source = b.desc(b.arg(0), 0, strides={loop: tile * 4}, offset=n * 4)
        filled = b.desc(ring, tile * 4, role="producer")
        used = b.desc(ring, tile * 4, role="consumer")
        b.emit("ld", "fp32", dst=filled, src=source, rows=one, cols=cols, set=[ring.ready], wait=[ring.free])
        target = b.desc(b.arg(1), 0, strides={loop: tile * 4})
        b.emit(
            "st",
            "fp32",
            dst=target,
            src=used,
            rows=one,
            cols=cols,
            set=[ring.free],
            wait=[ring.ready],
            pred=changed(loop),
        )
    return b


def template() -> Template:
    """The template of that program."""
    return write(*(SymInt.variable(name) for name in VARIABLES)).template(VARIABLES)


@given(st.integers(0, 1 << 12), st.integers(1, 1 << 12))
def test_an_instance_is_what_encoding_with_the_numbers_gives(n: int, tile: int) -> None:
    # Several trips, the last one smaller: then no two sizes of the program happen to be equal.
    tile *= 8
    n = n * tile + 2 * tile + 1
    image = write(n, tile).build("vector", [((0, 1),)])
    words, relocs = template().instance((n, tile))
    assert words.tolist() == image.words.tolist()
    assert list(relocs) == list(image.relocs)
    assert template().grids == image.grids


def test_a_value_that_does_not_fit_its_field_is_refused() -> None:
    with pytest.raises(CompileError, match=r"copy: szc: operand full is 2305843009213693952; allowed: 0 to 4294967295"):
        template().instance((1 << 64, 8))
    with pytest.raises(CompileError, match=r"copy: \w+: operand \w+ is \d+; allowed: "):
        template().instance((1 << 70, 1 << 66))


def test_instances_do_not_share_words() -> None:
    made = template()
    first, _ = made.instance((100, 8))
    kept = first.tolist()
    made.instance((999, 16))[0][:] = 0
    assert first.tolist() == kept
    assert made.instance((100, 8))[0].tolist() == kept


def test_a_template_cannot_have_a_size_that_code_looked_at() -> None:
    n = SymInt.variable("n")
    look: Callable[[], object] = lambda: write(n, 64 if n > 64 else 8)  # noqa: E731
    with pytest.raises(TypeError, match="cannot depend on the value of n"):
        look()
