"""What the chip does: its configuration (`npuvm.hw.config`) and the simulator.

Nothing is imported here, so that the compiler can read a chip's configuration without loading the simulator.
"""

from __future__ import annotations
