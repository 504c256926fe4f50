"""Forced colours: the reader's palette everywhere, and nothing said by a tint of ours alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.web.test_compare import open_compare
from tests.web.test_quality import violations

if TYPE_CHECKING:
    from tests.web.conftest import Lab

# buttons and fields that have no border, or a border of the colour of the page
BORDERLESS = """() => [...document.querySelectorAll('.btn, .icon, input[type=number], select, textarea')]
  .filter(e => e.checkVisibility())
  .map(e => [e, getComputedStyle(e)])
  .filter(([, s]) => parseFloat(s.borderTopWidth) < 1 || s.borderTopStyle === 'none'
    || s.borderTopColor === getComputedStyle(document.body).backgroundColor)
  .map(([e]) => e.outerHTML.slice(0, 100))"""
# words on a colour of their own that the browser would cover with a plate, or that cannot be read
COVERED = """() => {
  const systems = ['Canvas', 'ButtonFace', 'Field'].map(name => {
    const probe = document.body.appendChild(document.createElement('i'));
    probe.style.cssText = `forced-color-adjust: none; color: ${name}`;
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  });
  return [...document.querySelectorAll('body *')]
    .filter(e => e.checkVisibility() && e.innerText?.trim())
    .map(e => [e, getComputedStyle(e)])
    .filter(([, s]) => !/, 0\\)$/.test(s.backgroundColor) && !systems.includes(s.backgroundColor))
    .filter(([, s]) => s.forcedColorAdjust !== 'none' || s.color === s.backgroundColor)
    .map(([e]) => e.outerHTML.slice(0, 100));
}"""
SYSTEM = """name => {
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.cssText = `forced-color-adjust: none; color: ${name}`;
  const colour = getComputedStyle(probe).color.match(/[0-9]+/g).slice(0, 3).map(Number);
  probe.remove();
  return colour;
}"""
# the opaque colours of a canvas, commonest first
INKS = """e => {
  const data = e.getContext('2d').getImageData(0, 0, e.width, e.height).data;
  const counts = new Map();
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 255) continue;
    const colour = [...data.slice(i, i + 3)].join();
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).map(([c]) => c.split(',').map(Number));
}"""


@pytest.fixture(params=["light", "dark"])
def forced(lab: Lab, request: pytest.FixtureRequest) -> Lab:
    """The lab in a palette of the reader's, with the other theme chosen: it must not matter."""
    other: Any = {"light": "dark", "dark": "light"}[request.param]
    lab.page.evaluate("theme => localStorage.setItem('superpose.theme', theme)", other)
    lab.page.emulate_media(color_scheme=request.param, forced_colors="active", reduced_motion="reduce")
    lab.page.reload()
    return lab


def sound(lab: Lab, state: str) -> None:
    assert lab.page.evaluate(BORDERLESS) == [], state
    assert lab.page.evaluate(COVERED) == [], state


def test_every_screen_has_its_borders_and_its_words(forced: Lab) -> None:
    lab = forced
    sound(lab, "empty")
    lab.start("nucleus", T_e=12, T_total=40)
    lab.done()
    run = lab.run
    sound(lab, "done")
    lab.step(3).click()
    lab.page.get_by_role("button", name="Edit weights").click()
    expect(lab.page.get_by_role("button", name="Branch with these")).to_be_visible()
    sound(lab, "weights")
    lab.page.keyboard.press("Escape")
    lab.page.goto(f"{lab.url}/run/{run}")
    lab.page.get_by_role("button", name="Share").click()
    sound(lab, "share")
    lab.page.keyboard.press("Escape")
    open_compare(lab, f"/compare?runs={run},{run}&step=3")
    sound(lab, "compare")
    lab.page.goto(f"{lab.url}/runs")
    lab.page.get_by_role("table", name="Runs").get_by_role("checkbox").nth(1).check()
    lab.page.get_by_role("button", name="Export").click()
    sound(lab, "runs")
    for path in ("models", "strategies/nucleus"):
        lab.page.goto(f"{lab.url}/{path}")
        expect(lab.page.get_by_role("main").get_by_role("heading").first).to_be_visible()
        sound(lab, path)
    assert violations(lab) == []


def test_the_drawing_takes_the_colours_of_the_reader(forced: Lab) -> None:
    lab = forced
    lab.start("nucleus", T_e=12, T_total=40)
    record = lab.done()
    ink, page, link = (lab.page.evaluate(SYSTEM, name) for name in ("CanvasText", "Canvas", "LinkText"))
    canvas = lab.page.locator("canvas").first
    inks = canvas.evaluate(INKS)
    assert ink in inks and link in inks
    mixed = [colour for colour in inks if colour not in (ink, link)]
    grey = [colour for colour in mixed if max(colour) - min(colour) <= 2]  # shares of ink on the page
    assert len(grey) > len(mixed) / 2
    lab.page.get_by_role("combobox", name="Chart").select_option("heat")
    heat = lab.page.locator("canvas").first
    expect(heat).to_be_visible()
    lab.page.wait_for_function(
        "e => e.getContext('2d').getImageData(0, 0, e.width, e.height).data.some(v => v)", arg=heat.element_handle()
    )
    assert ink in heat.evaluate(INKS)
    shades = [
        lab.page.locator(f".swatch.{name}").first.evaluate("e => getComputedStyle(e).backgroundColor")
        for name in ("w1", "w2", "w3", "w4")
    ]
    assert len(set(shades)) == 4
    assert ink != page
    for step in record["steps"]:
        if step["kind"] != "mixture":
            continue
        heights = (
            lab.step(step["step"])
            .locator(".cell")
            .evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().height)")
        )
        weights = [fed["weight"] for fed in step["fed"]][:10]
        assert heights[: len(weights)] == pytest.approx([72 * weight for weight in weights], abs=0.05)
    frames = [
        lab.step(at).locator(".stk").first.evaluate("e => getComputedStyle(e).outlineStyle")
        for at in (0, next(step["step"] for step in record["steps"] if step["kind"] == "mixture"))
    ]
    assert set(frames) == {"solid"}


def test_focus_selection_and_kinds_are_seen(forced: Lab) -> None:
    lab = forced
    lab.start("sample", T_e=12, T_total=40)
    lab.done()
    assert lab.step(0).locator(".stk").first.evaluate("e => getComputedStyle(e).outlineStyle") == "dashed"
    outline = """e => {
      const style = getComputedStyle(e);
      return [style.outlineStyle, parseFloat(style.outlineWidth), style.outlineColor];
    }"""
    lab.step(2).click()
    style, width, colour = lab.step(2).evaluate(outline)
    page = lab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert style == "solid" and width >= 2 and colour != page
    share = lab.page.get_by_role("button", name="Share")
    lab.page.get_by_role("button", name="Generate").focus()
    for _ in range(12):
        lab.page.keyboard.press("Tab")
        if share.evaluate("e => e === document.activeElement"):
            break
    style, width, colour = share.evaluate(outline)
    assert style in ("solid", "auto") and width >= 2 and colour != page
    current = lab.page.get_by_role("navigation").first.get_by_role("link", name="Lab")
    assert current.evaluate("e => parseFloat(getComputedStyle(e).borderBottomWidth)") >= 2


def test_the_picture_keeps_the_colours_of_the_theme(forced: Lab) -> None:
    """What is saved is for others: their palettes are not the reader's."""
    lab = forced
    lab.start("nucleus", T_e=8, T_total=20)
    lab.done()
    lab.page.get_by_role("button", name="Picture").click()
    with lab.page.expect_download() as download:
        lab.page.get_by_role("button", name="SVG").click()
    svg = download.value.path().read_text()
    assert "CanvasText" not in svg and "color-mix" not in svg and "#" in svg
