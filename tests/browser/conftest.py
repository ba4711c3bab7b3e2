"""A headless Chromium without a network, and a folder for screenshots (NPUVM_SCREENSHOTS keeps them)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

OpenPage: TypeAlias = "Callable[..., Page]"
"""Called with the HTML of a page and (width, height); the further arguments are those of a browser context."""

WIDE, NARROW = (1280, 900), (390, 844)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing (pip install playwright)")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is missing (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Opens a page from a file; at the end no message, no error and no request may have come from it."""
    with watched(browser, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def open_shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPage]:
    """`open_page` for a page that the tests of a module share."""
    with watched(browser, tmp_path_factory.mktemp("shared")) as opened:
        yield opened


@contextmanager
def watched(browser: Browser, folder: Path) -> Iterator[OpenPage]:
    told: list[str] = []
    contexts = []

    def opened(html: str, size: tuple[int, int] = WIDE, **settings: Any) -> Page:
        file = folder / "page.html"
        file.write_text(html, encoding="utf-8")
        narrow = size == NARROW
        context = browser.new_context(
            offline=True,
            viewport={"width": size[0], "height": size[1]},
            has_touch=narrow,
            is_mobile=narrow,
            **settings,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: told.append(f"error: {error}"))
        page.on("request", lambda request: told.append(request.url) if _is_elsewhere(request.url, file) else None)
        page.goto(file.as_uri())
        return page

    try:
        yield opened
    finally:
        for context in contexts:
            context.close()
    assert told == []


def _is_elsewhere(url: str, file: Path) -> bool:
    return not (url.startswith(("data:", "blob:")) or url.split("#")[0] == file.as_uri())


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where screenshots go: NPUVM_SCREENSHOTS, or a folder of the test."""
    folder = Path(os.environ.get("NPUVM_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
