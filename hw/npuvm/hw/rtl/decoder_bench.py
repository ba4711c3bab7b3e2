"""The generated decoder in a simulator: very many words through it at once.

The decoder is combinational. A generated top module reads vectors from a file, gives each to the decoder, lets it settle and
writes all outputs as one row of another file; cocotb only starts it and waits for the end, so that the simulator's own speed
counts and not that of a Python call per word. One build serves any number of runs.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.simulators import Build, Simulator, build, build_and_run, decoder_sources
from npuvm.hw.rtl.vectors import WORDS, Vectors
from npuvm.isa.generate import Port, decoder_ports
from npuvm.isa.model import Isa

__all__ = ["TOPLEVEL", "DecoderBench", "DecoderOutputs", "decode_directly", "decoder_outputs", "vector_reader_sv"]

TOPLEVEL = "npu_decoder_vectors"
VECTOR_FILE, ROW_FILE = "vectors.bin", "rows.bin"
_VECTOR_BYTES = 8 * WORDS + 1
_BULK_BENCH, _DIRECT_BENCH = "npuvm.hw.rtl.decoder_bulk", "npuvm.hw.rtl.decoder_direct"
_BATCH = 1 << 17  # vectors in one file: 8 MiB in, about 20 MiB out


@dataclass(frozen=True)
class DecoderOutputs:
    """What the decoder answered: `columns` maps each output to its raw bits, (n,) uint64; `ports` describes them."""

    columns: Mapping[str, npt.NDArray[np.uint64]]
    ports: Mapping[str, Port]

    def signed(self, name: str) -> npt.NDArray[np.int64]:
        """An output as a two's complement number of its width."""
        shift = np.uint64(64 - self.ports[name].width)
        shifted: npt.NDArray[np.int64] = (self.columns[name] << shift).view(np.int64) >> shift.astype(np.int64)
        return shifted


class DecoderBench:
    """The decoder of one instruction set, built in one simulator under `work_dir` (a temporary folder when None).

    `sources` are another implementation of the module `npu_decoder` with the same ports; the generated one when None.
    """

    def __init__(
        self, isa: Isa, simulator: Simulator, work_dir: Path | None = None, *, sources: Sequence[Path] | None = None
    ) -> None:
        if work_dir is None:
            work_dir = Path(tempfile.mkdtemp(prefix="npuvm-decoder-"))
            weakref.finalize(self, shutil.rmtree, work_dir, ignore_errors=True)
        self.simulator = simulator
        self.outputs = decoder_outputs(isa)
        self._work_dir = work_dir
        work_dir.mkdir(parents=True, exist_ok=True)
        top = work_dir / f"{TOPLEVEL}.sv"
        top.write_text(vector_reader_sv(self.outputs), encoding="utf-8")
        decoder = decoder_sources(isa, work_dir) if sources is None else sources
        self._build: Build = build(
            simulator, [*decoder, top], TOPLEVEL, work_dir / "build", arguments=_ARGUMENTS[simulator.name]
        )

    def decode(self, vectors: Vectors) -> DecoderOutputs:
        """All outputs for each vector; RtlError when an output is unknown (X) in one of them, or the simulation fails."""
        batches = [self._decode_batch(batch) for batch in vectors.chunks(_BATCH)]
        columns = {
            port.name: np.concatenate([batch[port.name] for batch in batches]) if batches else np.zeros(0, np.uint64)
            for port in self.outputs
        }
        return DecoderOutputs(columns, {port.name: port for port in self.outputs})

    def _decode_batch(self, vectors: Vectors) -> dict[str, npt.NDArray[np.uint64]]:
        (self._work_dir / VECTOR_FILE).write_bytes(_pack(vectors))
        rows_file = self._work_dir / ROW_FILE
        rows_file.unlink(missing_ok=True)
        self._build.run(_BULK_BENCH, work_dir=self._work_dir)
        lanes = _lanes(self.outputs)
        rows = np.fromfile(rows_file, "<u4")
        if rows.size != lanes * len(vectors):
            raise RtlError(f"the decoder gave {rows.size / lanes:g} rows for {len(vectors)} vectors")
        columns = _unpack(rows.reshape(len(vectors), lanes), self.outputs)
        unknown = np.flatnonzero(columns.pop(_UNKNOWN.name))
        if unknown.size:
            words = " ".join(f"{word:#x}" for word in vectors.program(int(unknown[0])))
            raise RtlError(f"outputs are unknown (X) in {unknown.size} of {len(vectors)} vectors; the first: {words}")
        return columns


def decoder_outputs(isa: Isa) -> tuple[Port, ...]:
    """The outputs of the decoder of this instruction set, in the order of its ports."""
    return tuple(port for port in decoder_ports(isa) if port.direction == "output")


def decode_directly(isa: Isa, simulator: Simulator, vectors: Vectors, work_dir: Path) -> DecoderOutputs:
    """The same as `DecoderBench.decode`, one vector at a time from Python: slow, but it names the outputs that are unknown.

    Words past the end of a program are X in a simulator that knows X.
    """
    outputs = decoder_outputs(isa)
    task: dict[str, Any] = {
        "vectors": [[row.tolist(), int(avail)] for row, avail in zip(vectors.words, vectors.avail, strict=True)],
        "outputs": [port.name for port in outputs],
        "unknown": simulator.name == "icarus",
        "rows": str(work_dir.resolve() / "rows.json"),
    }
    work_dir.mkdir(parents=True, exist_ok=True)
    task_file = work_dir / "task.json"
    task_file.write_text(json.dumps(task), encoding="utf-8")
    environment = {"NPUVM_DECODER_TASK": str(task_file.resolve())}
    sources = decoder_sources(isa, work_dir)
    build_and_run(simulator, sources, "npu_decoder", _DIRECT_BENCH, work_dir / "direct", environment=environment)
    rows = np.array(json.loads(Path(task["rows"]).read_text(encoding="utf-8")), np.uint64)
    return DecoderOutputs(
        {port.name: rows[:, column] for column, port in enumerate(outputs)}, {port.name: port for port in outputs}
    )


_UNKNOWN = Port("unknown", 1, "output", False)
"""A bit in front of each row: some output was X. The row itself is written with two states."""

_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "icarus": ("-Wall",),
    "verilator": ("--timing",),
}


def vector_reader_sv(outputs: Sequence[Port]) -> str:
    """The top module, as SystemVerilog: `start` makes it decode all of `vectors.bin` into `rows.bin`, then `done` rises.

    A vector is the number of words, then the words from the last to the head, all big-endian. A row is all outputs, the
    first in the lowest bits, and a bit above them for "something is unknown", in little-endian 32-bit words.
    """
    width = sum(port.width for port in outputs)
    declarations = "\n".join(f"  logic [{port.width - 1}:0] {port.name};" for port in outputs)
    row = ",\n    ".join(port.name for port in reversed(outputs))
    return f"""\
// Decodes a file of vectors into a file of rows; written by npuvm.hw.rtl.decoder_bench.
module {TOPLEVEL} (
  input  logic start,
  output logic done
);
  logic [511:0] words;
  logic [3:0]   avail;
{declarations}
  npu_decoder dut (.*);

  wire [{width - 1}:0] row = {{
    {row}
  }};
  logic [{32 * _lanes(outputs) - 1}:0] lanes;
  logic [{8 * _VECTOR_BYTES - 1}:0] vector;
  integer vectors, rows;

  initial begin
    done = 1'b0;
    wait (start === 1'b1);
    vectors = $fopen("{VECTOR_FILE}", "rb");
    rows = $fopen("{ROW_FILE}", "wb");
    while ($fread(vector, vectors) == {_VECTOR_BYTES}) begin
      words = vector[511:0];
      avail = vector[515:512];
      #1;
      lanes = 0;
      lanes[{width}:0] = {{(^row) === 1'bx, row}};
      $fwrite(rows, "%u", lanes);
    end
    $fclose(vectors);
    $fclose(rows);
    done = 1'b1;
  end
endmodule
"""


def _lanes(outputs: Sequence[Port]) -> int:
    return sum(port.width for port in outputs) // 32 + 1


def _pack(vectors: Vectors) -> bytes:
    packed = np.empty((len(vectors), _VECTOR_BYTES), np.uint8)
    packed[:, 0] = vectors.avail
    packed[:, 1:] = vectors.words[:, ::-1].astype(">u8").view(np.uint8).reshape(len(vectors), 8 * WORDS)
    return packed.tobytes()


def _unpack(rows: npt.NDArray[np.uint32], outputs: Sequence[Port]) -> dict[str, npt.NDArray[np.uint64]]:
    columns: dict[str, npt.NDArray[np.uint64]] = {}
    low = 0
    for port in (*outputs, _UNKNOWN):
        value = np.zeros(len(rows), np.uint64)
        for lane in range(low // 32, (low + port.width - 1) // 32 + 1):
            shift = 32 * lane - low
            part = rows[:, lane].astype(np.uint64)
            value |= part << np.uint64(shift) if shift >= 0 else part >> np.uint64(-shift)
        columns[port.name] = value & np.uint64((1 << port.width) - 1)
        low += port.width
    return columns
