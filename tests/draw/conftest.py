"""Tools that read drawings: Graphviz, a browser, Mermaid. Required if `CI` is set; otherwise tests are skipped."""

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
    """Skip a test whose tool is missing; fail if `CI` is set."""
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
    """A browser without requests of its own, in a separate thread, because its driver needs an event loop."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1)
        self._playwright, self._browser = self._thread.submit(self._start).result()

    def _start(self) -> tuple[Playwright, Browser]:
        playwright = sync_playwright().start()
        return playwright, playwright.chromium.launch(executable_path=self._path, args=FLAGS)

    def __call__(self, work: Callable[[Browser], T]) -> T:
        """Call a function with the browser in its thread. The result must not refer to the browser."""
        return self._thread.submit(work, self._browser).result()

    def close(self) -> None:
        """Stop the browser."""
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()


@pytest.fixture(scope="session")
def in_browser() -> Iterator[InBrowser]:
    """Run a browser in a thread, for modules that also have tests with an event loop."""
    started = InBrowser(chromium())
    yield started
    started.close()


@pytest.fixture(scope="session")
def mermaid_source() -> Path:
    """Return the path of Mermaid's script."""
    if not MERMAID.exists():
        missing("Mermaid", f"npm pack mermaid@11, and its dist/mermaid.min.js at {MERMAID}")
    return MERMAID


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run a browser in this thread, for modules whose tests have no event loop."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@dataclass
class Violations:
    """Forbidden acts of a page: console messages, errors, requests, dialogs."""

    found: list[str] = field(default_factory=list)


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open pages from a file. Fails at the end if a page did something that is forbidden."""
    violations = Violations()
    contexts = []

    def show(html: str, *, width: int = 1280, height: int = 800, fragment: str = "", **options: Any) -> Page:
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(html, encoding="ascii")
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.add_init_script(REFUSALS)
        page = context.new_page()
        page.on("console", lambda message: violations.found.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: violations.found.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (violations.found.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: _note(violations, request.url, path))
        page.goto(f"{path.as_uri()}{fragment}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield show
    for context in contexts:
        context.close()
    assert violations.found == []


def _note(violations: Violations, url: str, path: Path) -> None:
    if url.split("#", maxsplit=1)[0] != path.as_uri() and url != "data:,":
        violations.found.append(f"request: {url}")
