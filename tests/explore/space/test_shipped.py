"""The design spaces under configs/space: they load, their points are chips, and their workloads have the sizes they name."""

from __future__ import annotations

import random

import jsonschema
import pytest
import yaml

from npuvm.compiler.frontends.onnx import import_model, load_model
from npuvm.explore.space import Space, load_space, space_json_schema
from npuvm.hw.energy import estimate_area, load_technology
from npuvm.isa.resources import data_root
from npuvm.runtime.session.feeds import shapes_at

SHIPPED = sorted((data_root() / "configs" / "space").glob("*.yaml"))


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def space(request: pytest.FixtureRequest) -> Space:
    return load_space(request.param)


def test_three_spaces_and_a_small_one_are_shipped() -> None:
    assert {path.stem for path in SHIPPED} >= {"edge_minilm", "datacentre_llama", "isa_extensions"}


def test_a_space_fits_the_schema_and_has_the_name_of_its_file(space: Space) -> None:
    jsonschema.validate(yaml.safe_load(space.text), space_json_schema())
    assert space.name == space.path.stem


def test_points_are_chips_that_the_technology_prices(space: Space) -> None:
    """Every value of every parameter is tried, the others drawn."""
    rng, technology = random.Random(0), load_technology(space.technology)
    for parameter in space.parameters:
        for value in parameter.values:
            tries = (
                {**{each.name: rng.choice(each.values) for each in space.parameters}, parameter.name: value}
                for _ in range(50)
            )
            point = next(each for each in tries if space.fault(each) is None)
            assert estimate_area(space.chip(point), technology).total.value > 0


def test_models_run_at_the_sizes_of_their_workloads(space: Space) -> None:
    for workload in space.workloads:
        if workload.kind == "model":
            model = import_model(load_model(workload.path))
            assert not model.host_steps()
            for run in workload.runs:
                assert all(size >= 0 for shape in shapes_at(model, run.sizes).values() for size in shape)
