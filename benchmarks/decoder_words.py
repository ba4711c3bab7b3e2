"""How fast the generated decoder runs in a simulator: words a second, by simulator and by how the words get in.

    python benchmarks/decoder_words.py [--icarus N] [--verilator N] [--direct N] [--extension E]... [--json FILE]

`file` is the way of the tests and of `npuvm conformance --target rtl`: a top module reads a file of words and writes a file of
outputs. `python` gives each word from a cocotb bench and reads every output back. Nothing is compared with the Python
decoder here; tests/rtl does that, and what it costs for the same words stands in the last row. A run is timed whole: writing
the words, starting the simulator with cocotb in it, simulating, reading the outputs. 0 leaves a row out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from npuvm.hw.rtl import find_simulator
from npuvm.hw.rtl.decoder_bench import DecoderBench, decode_directly
from npuvm.hw.rtl.vectors import Vectors, random_vectors
from npuvm.isa import Isa, classify, load_isa
from npuvm.runtime.scenarios.header import code_version

SEED = 1
_T = TypeVar("_T")


@dataclass(frozen=True)
class Measured:
    """One way of decoding, with the processor seconds of the build and of the run."""

    decoder: str
    how: str
    words: int
    build_seconds: float
    run_seconds: float

    @property
    def rate(self) -> float:
        """Words a processor second, the build not counted."""
        return self.words / self.run_seconds


def main() -> None:
    """Measure each way that was asked for, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--icarus", type=int, default=20_000)
    parser.add_argument("--verilator", type=int, default=500_000)
    parser.add_argument("--direct", type=int, default=1_000)
    parser.add_argument("--extension", action="append", default=[])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    isa = load_isa(extensions=options.extension)
    rows = [through_a_file(isa, name, count) for name, count in _asked(options) if count]
    rows += [from_python(isa, options.direct)] if options.direct else []
    rows.append(in_python(isa, max(row.words for row in rows)))
    header = f"decoder of {isa.name} {isa.version} {'+'.join(('base', *isa.extensions))}, npuvm {code_version()}, seed {SEED}"
    print(header)
    print(f"{'decoder':<12}{'words given by':<16}{'words':>9}{'build s':>9}{'run s':>8}{'words/s':>9}")
    for row in rows:
        print(
            f"{row.decoder:<12}{row.how:<16}{row.words:>9}{row.build_seconds:>9.1f}{row.run_seconds:>8.2f}{row.rate:>9.0f}"
        )
    if options.json is not None:
        report = {"header": header, "isa_hash": isa.hash, "rows": [asdict(row) | {"rate": row.rate} for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def through_a_file(isa: Isa, simulator: str, count: int) -> Measured:
    """Random words through the file reader."""
    build_seconds, bench = _timed(lambda: DecoderBench(isa, find_simulator(simulator)))
    vectors = random_vectors(isa, count, SEED)
    run_seconds, _ = _timed(lambda: bench.decode(vectors))
    return Measured(simulator, "file", count, build_seconds, run_seconds)


def from_python(isa: Isa, count: int) -> Measured:
    """Random words from a cocotb bench in Icarus; its build, some tenths of a second, is part of the run."""
    vectors = random_vectors(isa, count, SEED)
    with tempfile.TemporaryDirectory() as folder:
        run_seconds, _ = _timed(lambda: decode_directly(isa, find_simulator("icarus"), vectors, Path(folder)))
    return Measured("icarus", "python", count, 0.0, run_seconds)


def in_python(isa: Isa, count: int) -> Measured:
    """The Python decoder on the same words, for scale."""
    vectors = random_vectors(isa, count, SEED)
    run_seconds, _ = _timed(lambda: _classify_all(isa, vectors))
    return Measured("python", "-", count, 0.0, run_seconds)


def _classify_all(isa: Isa, vectors: Vectors) -> None:
    for row in range(len(vectors)):
        classify(isa, vectors.program(row))


def _asked(options: argparse.Namespace) -> list[tuple[str, int]]:
    return [("icarus", options.icarus), ("verilator", options.verilator)]


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    before = os.times()
    result = work()
    return sum(os.times()[:4]) - sum(before[:4]), result


if __name__ == "__main__":
    main()
