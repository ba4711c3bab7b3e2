"""The hardware description under `hw/rtl/` in a simulator: builds, benches, and the conformance target of the decoder.

Needs the extra `npuvm[rtl]` and a simulator to run anything; importing it needs neither.
"""

from __future__ import annotations

from npuvm.hw.rtl.simulators import (
    Build,
    Simulator,
    build,
    build_and_run,
    decoder_sources,
    find_simulator,
    rtl_sources,
)

__all__ = [
    "Build",
    "Simulator",
    "build",
    "build_and_run",
    "decoder_sources",
    "find_simulator",
    "rtl_sources",
]
