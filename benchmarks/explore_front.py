"""How soon each sampler finds the front of a design space, all of whose points are known.

    python benchmarks/explore_front.py [--space FILE] [--grid FILE] [--samplers random,tpe,nsga2] [--seeds 5] [--first-seed 0]
        [--evaluations N] [--batch N] [--processes N] [--json FILE] [--html FILE] [--front CSV]

First every point of the space is evaluated, as `npuvm explore` does it, and written to --grid, a line of JSON each; a run that
was killed goes on where it was. Points beyond a budget by what is known before they run are not simulated. Then each sampler
searches with each seed, by the studies of `npuvm explore`, with points looked up in place of being simulated. Points that are
out by what is known before they run, over a budget or beaten by the front by their limits, are not asked for, as there.

Hypervolumes are of the objectives as they are, against a reference a tenth of the range beyond the worst point, as shares of
that of the grid's front. Every evaluation is one point that a search without the grid would simulate.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.exploring.grid import fill  # noqa: E402
from benchmarks.exploring.replay import Known, search, summary  # noqa: E402

from npuvm.explore.evaluation import Evaluation  # noqa: E402
from npuvm.explore.results.tables import points_csv  # noqa: E402
from npuvm.explore.space import load_space  # noqa: E402
from npuvm.explore.study import SAMPLERS  # noqa: E402
from npuvm.runtime.scenarios.header import code_version  # noqa: E402

_PART = 10
"""Of so many points of the grid one is evaluated, when the samplers are compared."""


def main() -> None:
    """Evaluate what is missing of the grid, search, print and write."""
    options = _options()
    space = load_space(options.space)
    grid_path = options.grid or Path("build") / "explore" / f"{space.name}.grid.jsonl"
    grid = fill(space, grid_path, grid_path.with_suffix(".store"), options.processes, _told)
    known = Known.of(space, grid)
    tenth = len(grid) // _PART
    searches = [
        search(known, sampler, seed, options.evaluations or tenth, options.batch or space.search.batch)
        for sampler in options.samplers.split(",")
        for seed in range(options.first_seed, options.first_seed + options.seeds)
    ]
    rows = summary(known, searches, tenth)
    states = {state: sum(each.state == state for each in grid.values()) for state in ("done", "over_budget", "failed")}
    print(f"{space.name}: {len(grid)} points ({states}), {len(known.front)} on the front, code {code_version()}")
    print(
        f"{'sampler':8} {'evaluations':>11} {'hypervolume: quartiles':>30} {'points of the front':>30}  "
        "evaluations to 99 % of the volume; to the whole front; until nothing else can be of it"
    )
    for row in rows:
        spans = [
            " ".join(f"{row[name][part]:.4f}" for part in ("quarter", "median", "three_quarters"))
            for name in ("volume", "front_points")
        ]
        until = "; ".join(
            ", ".join(str(each or "-") for each in row[f"evaluations_to_{name}"])
            for name in ("99_pct_volume", "whole_front", "proof")
        )
        print(f"{row['sampler']:8} {row['evaluations']:>11} {spans[0]:>30} {spans[1]:>30}  {until}")
    if options.json is not None:
        cpu_seconds = sum(each.host.cpu_seconds for each in grid.values())
        report = {
            "space": space.name, "code": code_version(), "points": len(grid), "states": states,
            "cpu_seconds_measured": cpu_seconds, "front": known.front, "reference": known.reference,
            "hypervolume": known.volume, "samplers": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.front is not None:
        options.front.write_text(points_csv(space, known.best), encoding="utf-8")
    if options.html is not None:
        from benchmarks.exploring.figure import draw  # plotly is an extra

        figure = draw(known, searches, tenth)
        options.html.write_text(figure.to_html(include_plotlyjs=options.plotly), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", type=Path, default=ROOT / "configs" / "space" / "edge_minilm.yaml")
    parser.add_argument("--grid", type=Path, help="evaluations of all points; default: build/explore/NAME.grid.jsonl")
    parser.add_argument(
        "--samplers", default="random,tpe,nsga2", type=_samplers, help="default: random,tpe,nsga2; also grid"
    )
    parser.add_argument("--seeds", type=int, default=5, help="searches of each sampler")
    parser.add_argument("--first-seed", type=int, default=0, help="seeds count up from this")
    parser.add_argument("--evaluations", type=int, help="points of each search; default: a tenth of the grid")
    parser.add_argument("--batch", type=int, help="points asked for at a time; default: that of the space")
    parser.add_argument("--processes", type=int, default=1, help="for the grid")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--html", type=Path, help="both shares over evaluations, as one page")
    parser.add_argument(
        "--plotly", choices=("cdn", "directory"), default=True, help="take plotly from there, not into the page"
    )
    parser.add_argument("--front", type=Path, help="the points of the grid's front, as CSV")
    return parser.parse_args()


def _samplers(text: str) -> str:
    for name in text.split(","):
        if name not in SAMPLERS:
            raise argparse.ArgumentTypeError(f"{name!r}; allowed are {', '.join(SAMPLERS)}")
    return text


def _told(done: int, total: int, evaluation: Evaluation) -> None:
    if sys.stderr.isatty() or done % 100 == 0:
        print(f"{done} of {total} points, the last {evaluation.state}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
