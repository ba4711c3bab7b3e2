"""Models that run on the simulated chip, operator by operator.

Nothing is imported here: a model's own dependencies (tokenizers, safetensors) are needed only by those who run it.
"""

from __future__ import annotations
