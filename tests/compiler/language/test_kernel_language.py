"""The examples of docs/reference/kernel-language.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from npuvm.compiler import Kernel, KernelBuilder, kernel, parse_graph, print_graph

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "kernel-language.md"


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_example_prints_the_graph_of_the_page() -> None:
    names: dict[str, object] = {"kernel": kernel}
    exec(blocks("python")[0], names)
    example = names["rms_norm"]
    assert isinstance(example, Kernel)
    (text,) = blocks("")
    assert print_graph(example.graph) == text
    assert print_graph(parse_graph(text)) == text


def test_every_operation_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    public = [
        name for name in vars(KernelBuilder) if not name.startswith("_") and callable(getattr(KernelBuilder, name))
    ]
    missing = [name for name in public if not re.search(rf"\b{name}\b", page)]
    assert not missing
