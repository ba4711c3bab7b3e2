from __future__ import annotations

from pathlib import Path

import pytest

from npuvm.isa import resources
from npuvm.isa.errors import IsaError, NpuvmError


def test_clone_layout() -> None:
    root = Path(__file__).resolve().parents[2]
    assert resources.data_root() == root
    assert resources.find_resource("chip", "ascend_910b1") == root / "configs/npu/ascend_910b1.yaml"
    assert resources.find_resource("chip", "edge.yaml").is_file()


def test_wheel_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package finds its data beside itself, never by climbing out of site-packages."""
    package = tmp_path / "site/npuvm/isa"
    chip = tmp_path / "site/npuvm/data/configs/npu/tiny.yaml"
    for folder in (package, chip.parent):
        folder.mkdir(parents=True)
    chip.write_text("name: tiny\n")
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    assert resources.list_resources("chip") == ("tiny",)
    assert resources.find_resource("chip", "tiny") == chip


@pytest.mark.parametrize("name", ["nothing", "../npu/edge", "", "edge.yaml.yaml"])
def test_unknown_name_lists_what_exists(name: str) -> None:
    with pytest.raises(IsaError, match=r"ascend_910a, ascend_910b1, .*edge"):
        resources.find_resource("chip", name)


def test_error_class_is_the_callers() -> None:
    with pytest.raises(NpuvmError) as caught:
        resources.find_resource("extension", "nothing", NpuvmError)
    assert type(caught.value) is NpuvmError
