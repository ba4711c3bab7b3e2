"""A search on a Ray cluster of two nodes on this machine, one of which is killed on the way; run as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from tests.explore.study.kit import ROOT, Quick, small_space

from npuvm.cli.main import main
from npuvm.explore.evaluation import Evaluation
from npuvm.explore.space import Point
from npuvm.explore.study import Entry, Evaluate, Study, ray_tasks

_NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}


@dataclass(frozen=True)
class Marked:
    """Makes what leaves the name of its node in a folder, and then takes its time for a point."""

    folder: Path

    def __call__(self) -> Evaluate:
        """What evaluates points."""
        return self.evaluate

    def evaluate(self, point: Point, front: Sequence[Sequence[float]]) -> Evaluation:
        """The figures of `quick`."""
        (self.folder / ray.get_runtime_context().get_node_id()).touch()
        return Quick(0.3).evaluate(point, front)


def search(folder: Path) -> None:
    """Write the studies `killed.sqlite` and `tutorial.sqlite` and the folder `nodes`."""
    cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
    try:
        second = cluster.add_node(**_NODE)
        (folder / "nodes").mkdir()

        def heard(entry: Entry) -> None:
            if entry.number == 8:
                cluster.remove_node(second, allow_graceful=False)

        with (
            Study.open(small_space(), str(folder / "killed.sqlite"), "nsga2") as study,
            ray_tasks(Marked(folder / "nodes"), cluster.address) as tasks,
        ):
            study.run(16, tasks, heard)
        space = str(ROOT / "configs" / "space" / "tutorial.yaml")
        where = ["--storage", str(folder / "tutorial.sqlite"), "--out", str(folder), "--ray-address", cluster.address]
        assert main(["explore", space, "-n", "3", "-q", "--executor", "ray", *where]) == 0
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    search(Path(sys.argv[1]))
