"""The browser for the page's tests. Run as a script it says whether one is there: dev.py asks that."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

if not os.path.exists("/dev/nvidiactl"):  # read once, when triton is first imported
    os.environ["TRITON_INTERPRET"] = "1"

ARGS = ["--disable-gpu", "--disable-quic", "--no-first-run"]
ARGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
ON_PATH = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
FOUND = pytest.StashKey[str]()


def candidates() -> Iterator[dict[str, Any]]:
    """Launch options in the order to try: the one that was named, Playwright's own, installed ones."""
    if named := os.environ.get("SUPERPOSE_BROWSER"):
        yield {"executable_path": named}
        return
    yield {}
    for name in ON_PATH:
        if path := shutil.which(name):
            yield {"executable_path": path}
    if sys.platform in ("darwin", "win32"):
        yield from ({"channel": channel} for channel in ("chrome", "msedge"))


def find_browser(chromium: Any) -> tuple[dict[str, Any], str] | None:
    """Launch options and name of the first Chromium that starts: only a launch proves that one is there."""
    from playwright.sync_api import Error

    for options in candidates():
        try:
            browser = chromium.launch(**options, args=ARGS)
        except Error:
            continue
        name = options.get("executable_path") or options.get("channel") or "Playwright's Chromium"
        version = browser.version
        browser.close()
        return {**options, "args": ARGS}, f"{name} {version}"
    return None


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any], browser_type: Any, pytestconfig: pytest.Config
) -> dict[str, Any]:
    """How pytest-playwright launches. Without a browser: skipped at home, failed where CI=true."""
    if browser_type.name != "chromium" or "channel" in browser_type_launch_args:
        return browser_type_launch_args
    found = find_browser(browser_type)
    if found is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("no Chromium starts here: install one, or name its program in SUPERPOSE_BROWSER")
    options, pytestconfig.stash[FOUND] = found
    return {**browser_type_launch_args, **options}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Names the browser that was used, because a run without one looks just as green."""
    if name := config.stash.get(FOUND, ""):
        terminalreporter.write_line(f"browser: {name}")


if __name__ == "__main__":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = find_browser(playwright.chromium)
    print(found[1] if found else "no Chromium starts here")
    sys.exit(found is None)
