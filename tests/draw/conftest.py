"""The real tools that drawings are read with: Graphviz, a browser, Mermaid. On a gate they have to be there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

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

REFUSALS = "document.addEventListener('securitypolicyviolation', (e) => console.error(`no ${e.violatedDirective}`))"


def missing(what: str, way_out: str) -> None:
    """Skip what needs a tool that is not here; on a gate, fail."""
    message = f"{what} is not here: {way_out}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def chromium() -> str:
    """Return the path of Chromium."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        missing("Chromium", "apt-get install chromium")
    return found or ""


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
    """Run a browser in a thread, for tests among which there are some with an event loop."""
    started = InBrowser(chromium())
    yield started
    started.close()


@pytest.fixture(scope="session")
def mermaid_source() -> Path:
    """Return Mermaid itself."""
    if not MERMAID.exists():
        missing("Mermaid", f"npm pack mermaid@11, and its dist/mermaid.min.js at {MERMAID}")
    return MERMAID


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run a browser in this thread, for a module whose tests need no event loop of their own meanwhile."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@dataclass
class Heard:
    """What a page must never do: say something, fail, ask for anything, open a dialog of the browser's."""

    words: list[str] = field(default_factory=list)


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open pages from a file; at the end they must have been silent."""
    heard = Heard()
    contexts = []

    def show(html: str, *, width: int = 1280, height: int = 800, fragment: str = "", **options: Any) -> Page:
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(html, encoding="ascii")
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.add_init_script(REFUSALS)
        page = context.new_page()
        page.on("console", lambda message: heard.words.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.words.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.words.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: _note(heard, request.url, path))
        page.goto(f"{path.as_uri()}{fragment}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield show
    for context in contexts:
        context.close()
    assert heard.words == []


def _note(heard: Heard, url: str, path: Path) -> None:
    if url.split("#", maxsplit=1)[0] != path.as_uri() and url != "data:,":
        heard.words.append(f"request: {url}")
