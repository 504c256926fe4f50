"""Everyday comfort: examples, presets, copies of a run in other words, links, drafts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.web.conftest import Lab

EXAMPLES = Path(__file__).parents[2] / "web/src/examples"


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_every_strategys_page_shows_its_recorded_run(lab: Lab) -> None:
    """Make them again with: python benchmarks/examples.py"""
    asked: list[str] = []
    lab.page.on("request", lambda request: asked.append(request.url) if request.url.endswith(".json") else None)
    runs = {run[0]["spec"]["strategy"]["name"]: run for run in recorded("strategies")["runs"]}
    assert (EXAMPLES / "strategies.json").stat().st_size < 150_000
    listed = [each["name"] for each in lab.page.request.get(f"{lab.url}/api/strategies").json()]
    assert sorted(runs) == sorted(listed)
    lab.page.get_by_role("navigation", name="Screens").get_by_role("link", name="Strategies").click()
    assert asked == []
    lab.page.get_by_role("main").get_by_role("link", name=re.compile(f"^{listed[0]}")).click()
    for name in listed:
        lab.page.get_by_role("navigation", name="All strategies").get_by_role("link", name=name, exact=True).click()
        example = lab.page.get_by_role("region", name="An example run")
        steps = [event for event in runs[name] if "type" not in event]
        expect(example.get_by_role("option")).to_have_count(len(steps))
        expect(example).to_contain_text("Recorded with smollm2-135m: seed 1")
        mixed = [event for event in steps if "kind" not in event]
        expect(example.locator(".col.mixture")).to_have_count(len(mixed))
    assert len(asked) == 1, "one file, once, when the first page of a strategy is opened"
    example.get_by_role("option").first.focus()
    lab.page.keyboard.press("ArrowRight")
    expect(example.get_by_role("option").nth(1)).to_be_focused()
    expect(example.get_by_role("tooltip")).to_contain_text("step 1")
