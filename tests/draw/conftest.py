"""The real tools that drawings are read with: Graphviz, a browser, Mermaid. On a gate they have to be there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

T = TypeVar("T")

MERMAID = Path(__file__).parents[2] / ".tools" / "mermaid.min.js"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing(what: str, way_out: str) -> None:
    """Skip what needs a tool that is not here; on a gate, fail."""
    message = f"{what} is not here: {way_out}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def graphviz() -> str:
    """Return the path of Graphviz."""
    found = shutil.which("dot")
    if found is None:
        missing("Graphviz", "apt-get install graphviz")
    return found or ""


class InBrowser:
    """A browser that makes no request of its own, in a thread of its own: its driver has an event loop there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1)
        self._playwright, self._browser = self._thread.submit(self._start).result()

    def _start(self) -> tuple[Playwright, Browser]:
        playwright = sync_playwright().start()
        return playwright, playwright.chromium.launch(executable_path=self._path, args=FLAGS)

    def __call__(self, work: Callable[[Browser], T]) -> T:
        """Do something with the browser; what it returns must not belong to it."""
        return self._thread.submit(work, self._browser).result()

    def close(self) -> None:
        """Stop the browser."""
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()


@pytest.fixture(scope="session")
def in_browser() -> Iterator[InBrowser]:
    """Run a browser."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        missing("Chromium", "apt-get install chromium")
    started = InBrowser(found or "")
    yield started
    started.close()


@pytest.fixture(scope="session")
def mermaid_source() -> Path:
    """Return Mermaid itself."""
    if not MERMAID.exists():
        missing("Mermaid", f"npm pack mermaid@11, and its dist/mermaid.min.js at {MERMAID}")
    return MERMAID
