"""How many points of a design space a core looks at in a minute, and what sharing and limits are worth.

    python benchmarks/explore_speed.py [--space configs/space/edge_minilm.yaml] [--points 40] [--seed 0] [--json FILE]

The same points, drawn at random, are looked at one after another in four ways: with and without results shared between points,
with and without limits that prune. As in a search, the front that a point is held against is that of the batches before it.
Each way runs in a process of its own, after two points that are not counted (they load and compile the engine). Figures of
points that were simulated whole and the front must be the same in all ways, else the run stops.

Times are CPU seconds of this machine. Points at random are far apart; those of a search share more of each other.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from npuvm.explore.evaluation import Evaluation, Evaluator, dominated
from npuvm.explore.evaluation.keys import code_hash
from npuvm.explore.space import Point, Space, load_space
from npuvm.runtime.scenarios.header import code_version

WAYS = ((False, False), (True, False), (False, True), (True, True))
"""Whether points share results, and whether limits prune."""

WARM = 2
DEFAULT_SPACE = Path(__file__).resolve().parents[1] / "configs" / "space" / "edge_minilm.yaml"


@dataclass(frozen=True)
class Measured:
    """One way: CPU seconds, points by state, runs by how they were had; objectives of points simulated whole, by number."""

    sharing: bool
    bounds: bool
    cpu_seconds: float
    states: dict[str, int]
    runs: dict[str, int]
    vectors: dict[int, list[float]]
    front: list[int]
    errors: list[str]
    code: str

    @property
    def title(self) -> str:
        """What is on."""
        return " + ".join(name for name, on in (("sharing", self.sharing), ("limits", self.bounds)) if on) or "neither"


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", type=Path, default=DEFAULT_SPACE, help="a space file; edge_minilm unless given")
    parser.add_argument("--points", type=int, default=40, help="points that are drawn; 40 unless given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.points < 1:
        parser.error(f"--points = {options.points}; allowed: 1 or more")
    found = measure_all(options.space, options.points, options.seed)
    points = sum(found[0].states.values())
    print(f"{options.space.name}: {points} points, seed {options.seed}, code {code_version()}")
    print(table(found, points))
    for error in found[0].errors:
        print(f"failed: {error}")
    if options.json is not None:
        document = {
            "space": str(options.space),
            "points": points,
            "seed": options.seed,
            "code": code_version(),
            "ways": [asdict(each) for each in found],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measure_all(space: Path, points: int, seed: int) -> list[Measured]:
    """Every way in a process of its own; SystemExit when figures or fronts differ."""
    context = multiprocessing.get_context("spawn")
    found = []
    for sharing, bounds in WAYS:
        with context.Pool(1) as pool:
            found.append(pool.apply(measure, (space, points, seed, sharing, bounds)))
    if len({each.code for each in found}) > 1:
        raise SystemExit("the code was changed while the ways were measured; measure again")
    for each in found[1:]:
        differ = [number for number, vector in each.vectors.items() if vector != found[0].vectors.get(number)]
        if differ or each.front != found[0].front:
            raise SystemExit(
                f"{each.title}: figures of points {differ} or the front differ from those of {found[0].title}"
            )
    return found


def draw(space: Space, points: int, seed: int) -> list[Point]:
    """Different points of a space, and `WARM` further ones at the end; fewer where drawing finds no more."""
    rng = random.Random(seed)
    drawn: dict[tuple[Any, ...], Point] = {}
    for _ in range(50 * (points + WARM)):
        point = {parameter.name: rng.choice(parameter.values) for parameter in space.parameters}
        if space.key(point) not in drawn and space.fault(point) is None:
            drawn[space.key(point)] = point
        if len(drawn) == points + WARM:
            break
    return list(drawn.values())


def measure(path: Path, points: int, seed: int, sharing: bool, bounds: bool) -> Measured:
    """Look at the points in one way."""
    space = load_space(path)
    drawn = draw(space, points, seed)
    points = max(1, len(drawn) - WARM)
    for point in drawn[-WARM:]:
        Evaluator(space, sharing=False, bounds=False).evaluate(point)
    evaluator = Evaluator(space, sharing=sharing, bounds=bounds)
    signs = [objective.measure.sign for objective in space.objectives]
    states: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    seconds = 0.0
    vectors: dict[int, list[float]] = {}
    errors: dict[str, None] = {}
    front: list[list[float]] = []
    for number, point in enumerate(drawn[:points]):
        if number % space.search.batch == 0:
            front = undominated(list(vectors.values()), signs)
        evaluation = evaluator.evaluate(point, front)
        states[evaluation.state] += 1
        runs.update(evaluation.host.runs)
        seconds += evaluation.host.cpu_seconds
        if evaluation.error is not None:
            errors[evaluation.error] = None
        if evaluation.state == "done":
            vectors[number] = objectives(space, evaluation)
    best = undominated(list(vectors.values()), signs)
    numbers = [number for number, vector in vectors.items() if vector in best]
    return Measured(sharing, bounds, seconds, dict(states), dict(runs), vectors, numbers, list(errors), code_hash())


def objectives(space: Space, evaluation: Evaluation) -> list[float]:
    """A figure for each objective."""
    return [evaluation.measures[objective.name] for objective in space.objectives]


def undominated(vectors: Sequence[list[float]], signs: Sequence[int]) -> list[list[float]]:
    """Those that no other beats."""
    return [each for each in vectors if not dominated(each, vectors, signs)]


def table(found: Sequence[Measured], points: int) -> str:
    """A row for each way; the gain is over the first."""
    head = f"{'on':17} {'CPU s':>8} {'points/min/core':>16} {'gain':>6}  points; runs"
    rows = [head]
    for each in found:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(each.states.items()))
        runs = ", ".join(f"{count} {name}" for name, count in sorted(each.runs.items()))
        gain = found[0].cpu_seconds / each.cpu_seconds
        speed = 60 * points / each.cpu_seconds
        rows.append(f"{each.title:17} {each.cpu_seconds:8.1f} {speed:16.1f} {gain:6.2f}  {counts}; {runs}")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
