"""A real browser, without a screen and without a network, that must not say a word on its console."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

REFUSALS = "document.addEventListener('securitypolicyviolation', (e) => console.error(`no ${e.violatedDirective}`))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        missing = f"{CHROMIUM} is missing: install Debian's package chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
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
