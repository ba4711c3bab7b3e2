"""Profiles by kernel, program and operator, in every mode of fusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.runtime.session.models import floats, opened, parsed

from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import Model
from npuvm.runtime.session import Session, profile_json, render_nodes, render_profile
from npuvm.runtime.session.operators import operator_types, owner_of, sources_of

MODES = ("none", "pattern", "stack", "both")

NETWORK = """
network (float[B, 64] x, float[64, 64] w, float[64, 128] u) => (float[B, 128] y)
{
  [project] product = MatMul (x, w)
  [scale] scaled = Tanh (product)
  [soften] soft = Softmax <axis = -1> (scaled)
  [widen] y = MatMul (soft, u)
}
"""

NESTED = """
nested (bool go, float[N] x) => (float[N] y)
{
  [choose] y = If (go) <
    then_branch = yes () => (float[N] a) { [grow] a = Exp (x) },
    else_branch = no () => (float[N] b) { b = Neg (x) }>
}
"""


def ran(fusion: str | None, text: str = NETWORK, rows: int = 96, **options: Any) -> Session:
    _, session = opened(text, engine="functional_first", fusion=fusion, **options)
    session.run({"x": floats(rows, 64), "w": floats(64, 64), "u": floats(64, 128)})
    return session


@pytest.mark.parametrize("fusion", MODES)
def test_all_cycles_are_those_of_operators(fusion: str) -> None:
    session = ran(fusion)
    kernels, nodes = session.profile(), session.profile_nodes()
    assert sum(each.cycles for each in kernels) == session.last.cycles
    assert sum(each.cycles for each in nodes) == pytest.approx(session.last.cycles)
    assert sum(each.us for each in nodes) == pytest.approx(sum(each.us for each in kernels))
    assert sum(each.share for each in nodes) == pytest.approx(1)
    types = {"project": "MatMul", "scale": "Tanh", "soften": "Softmax", "widen": "MatMul"}
    assert {each.node: each.type for each in nodes} == types
    assert all(each.cycles > 0 for each in nodes)
    for kernel in kernels:
        assert sum(each.cycles for each in kernel.programs) == pytest.approx(kernel.cycles)
        assert kernel.operators == tuple(name for each in kernel.programs for name in each.operators)
        assert set(kernel.types) == {types[name] for name in kernel.operators}
        for each in kernel.programs:
            assert sum(each.nodes.values()) == pytest.approx(each.cycles) and set(each.nodes) == set(each.operators)


def test_a_kernel_for_each_operator_has_no_need_of_a_rule() -> None:
    session = ran("none")
    assert [each.kernels for each in session.profile_nodes()] == [1] * 4
    assert {each.node: each.cycles for each in session.profile_nodes()} == {
        each.operators[0]: each.cycles for each in session.profile()
    }
    assert all(each.alone == each.cycles for each in session.profile_nodes())


def test_programs_of_one_launch_have_the_times_of_their_instructions() -> None:
    """Linked or not, programs run the same instructions, so units without memory are as long busy, but for bank conflicts."""
    alone = {each.operators: each.busy for kernel in ran("none").profile() for each in kernel.programs}
    (kernel,) = ran("stack").profile()
    assert len(kernel.programs) == 4
    for each in kernel.programs:
        for unit in ("vector", "cube", "move"):
            assert each.busy.get(unit, 0) == pytest.approx(alone[each.operators].get(unit, 0), rel=0.01), each.operators
    # What crosses for `widen`: 96 x 64 and 64 x 128 numbers in, 96 x 128 out, inputs again for each core that has them.
    moved = {each.operators: each.moved_bytes for each in kernel.programs}
    assert moved[("widen",)] >= 4 * (96 * 64 + 64 * 128 + 96 * 128)
    assert kernel.l2_bytes + kernel.hbm_bytes > 0


def test_a_product_takes_what_instructions_on_l1_and_l0_take() -> None:
    session = ran("pattern", rows=16)
    ((program,),) = (kernel.programs for kernel in session.profile())
    nodes = program.nodes
    matrix = sum(program.busy.get(unit, 0.0) for unit in ("cube", "move", "fixpipe"))
    products = (nodes["project"] + nodes["widen"]) / program.cycles
    assert matrix / sum(program.busy.values()) <= products < 1
    # 64 columns beside 128, 16 rows and 64 deep either way.
    assert nodes["widen"] == pytest.approx(2 * nodes["project"])


def test_operators_of_the_vector_unit_share_by_their_operations() -> None:
    """Rows of exp and of a negation in one program: the chip takes as many cycles for a repeat of each as its classes say."""
    text = "both (float[R, 64] x) => (float[R, 64] y) { [grow] a = Exp (x) [turn] y = Neg (a) }"
    _, session = opened(text, engine="functional_first")
    session.run({"x": floats(64, 64)})
    cycles = {each.node: each.cycles for each in session.profile_nodes()}
    classes = session.device.chip.core.vector.classes
    ratio = float(classes["vexp"].cycles_per_repeat / classes["valu"].cycles_per_repeat)
    assert cycles["grow"] / cycles["turn"] == pytest.approx(ratio) and ratio > 1


def test_shares_of_units() -> None:
    for kernel in ran("both").profile():
        assert kernel.busy and all(0 <= share <= 1 for share in kernel.busy.values())


def test_tables_and_json() -> None:
    session = ran("stack")
    kernels, nodes = session.profile(), session.profile_nodes()
    assert render_profile(kernels).row_count == len(kernels) + sum(
        len(k.programs) for k in kernels if len(k.programs) > 1
    )
    assert render_nodes(nodes, 2).row_count == 2 and "2 more not shown" in str(render_nodes(nodes, 2).title)
    (kernel,) = profile_json(kernels)
    assert [each["operators"] for each in kernel["programs"]] == [("project",), ("scale",), ("soften",), ("widen",)]
    assert {each["node"] for each in profile_json(nodes)} == {"project", "scale", "soften", "widen"}


def test_runs_of_the_compiled_engine_have_the_same_profile() -> None:
    timed = Session(parsed(NETWORK), "edge", fusion="both", timing_only=True)
    timed.time({"x": (96, 64), "w": (64, 64), "u": (64, 128)})
    assert {each.node for each in timed.profile_nodes()} == {"project", "scale", "soften", "widen"}
    assert sum(each.cycles for each in timed.profile_nodes()) == pytest.approx(timed.last.cycles)


def test_a_model_that_is_read_already_has_no_types() -> None:
    model: Model = import_model(parsed(NETWORK))
    session = Session(model, "edge")
    session.run({"x": floats(8, 64), "w": floats(64, 64), "u": floats(64, 128)})
    assert {each.type for each in session.profile_nodes()} == {""}
    assert "project" in {each.node for each in session.profile_nodes()}


def test_names_of_operators_in_bodies() -> None:
    graph = parsed(NESTED).graph
    assert sources_of(graph) == ["choose"]
    assert operator_types(graph) == {"choose": "If", "choose/then/grow": "Exp", "choose/else/Neg_b": "Neg"}
    assert owner_of("choose/then/grow/Exp_0", operator_types(graph)) == "choose/then/grow"
    assert owner_of("elsewhere/Exp_0", operator_types(graph)) == "elsewhere/Exp_0"


def test_operators_of_a_body_that_ran() -> None:
    _, session = opened(NESTED, engine="functional_first")
    session.run({"go": np.array(True), "x": floats(300)})
    (node,) = session.profile_nodes()
    assert (node.node, node.type) == ("choose/then/grow", "Exp")
    assert node.cycles == pytest.approx(session.last.cycles)
