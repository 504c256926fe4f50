"""Pictures of runs, saved on the Runs screen: of one, of several, of long, failed and empty ones."""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Download, expect

from tests.web.test_runs_page import Shelf, shelf

if TYPE_CHECKING:
    from tests.web.conftest import Lab

__all__ = ["shelf"]
SVG = "{http://www.w3.org/2000/svg}"

# the size of a picture, its first pixel, and how many colours some thousand of its pixels have
PIXELS = """async bytes => {
  const data = Uint8Array.from(atob(bytes), c => c.charCodeAt(0));
  const image = await createImageBitmap(new Blob([data], {type: 'image/png'}));
  const canvas = new OffscreenCanvas(image.width, image.height);
  const pen = canvas.getContext('2d');
  pen.drawImage(image, 0, 0);
  const colours = new Set();
  for (let y = 0; y < image.height; y += 7)
    for (const [i, v] of new Uint32Array(pen.getImageData(0, y, image.width, 1).data.buffer).entries())
      if (i % 3 === 0) colours.add(v);
  return [image.width, image.height, colours.size, [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)]];
}"""
# what was the longest time without a frame, while a download is awaited
BREATH = """() => {
  window.breath = {longest: 0, last: performance.now()};
  const tick = now => {
    window.breath.longest = Math.max(window.breath.longest, now - window.breath.last);
    window.breath.last = now;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}"""


def picture(shelf: Shelf, kind: str) -> Download:
    return shelf.save(f"Picture ({kind})")


def drawn(path: Path) -> list[ET.Element]:
    """The pictures of a document, one a run."""
    return [group for group in ET.parse(path).getroot().iter(f"{SVG}g") if "transform" in group.attrib]


def matches(group: ET.Element, record: dict[str, Any]) -> None:
    """A picture says what its record says: caption, every step once, heights, tokens."""
    said = "".join(group.itertext())
    spec = record["spec"]
    assert f"{spec['strategy']['name']} · toy · seed {spec['seed']} · run {record['id']}" in said
    assert spec["user"] in said and f"T_total {spec['T_total']}" in said
    steps = {int(each.attrib["data-step"]): each for each in group.iter(f"{SVG}g") if "data-step" in each.attrib}
    assert list(steps) == list(range(len(record["steps"])))
    for step in record["steps"]:
        texts = [text.text or "" for text in steps[step["step"]].iter(f"{SVG}text")]
        shown = step["text"].strip()
        if shown.isascii() and shown.isalnum() and len(shown) < 6:
            assert shown in "".join(texts)
        if step["kind"] == "mixture" and step["phase"] == "thinking":
            heights = [float(rect.attrib["height"]) for rect in steps[step["step"]].iter(f"{SVG}rect")]
            weights = [fed["weight"] for fed in step["fed"]][:10]
            assert heights[: len(weights)] == pytest.approx([72 * weight for weight in weights], abs=1e-3)


def test_pictures_of_one_run_and_of_three(shelf: Shelf, tmp_path: Path) -> None:
    shelf.open("&sort=seed", rows=3)
    records = [shelf.record(run["id"]) for run in shelf.listed()]
    for names, those in ((["pears"], records[1:2]), (["first", "cherries"], records)):
        shelf.choose(*names)
        saved = picture(shelf, "SVG")
        path = tmp_path / saved.suggested_filename
        saved.save_as(path)
        assert path.name == (f"superpose-{those[0]['id']}.svg" if len(those) == 1 else "superpose-3-runs.svg")
        groups = drawn(path)
        for group, record in zip(groups, those, strict=True):
            matches(group, record)
        assert (f"{shelf.word} first · " in "".join(groups[0].itertext())) == (len(those) == 3)  # its name
        height = int(ET.parse(path).getroot().attrib["height"])
        saved = picture(shelf, "PNG")
        assert saved.suggested_filename == path.with_suffix(".png").name
        width, high, colours, _ = pixels(shelf, saved)
        assert (width, high) == (2400, 2 * height)
        assert colours > 50
    expect(shelf.toast).not_to_contain_text("left out")


def pixels(shelf: Shelf, saved: Download) -> tuple[int, int, int, list[int]]:
    data = base64.b64encode(Path(saved.path()).read_bytes()).decode()
    width, height, colours, first = shelf.page.evaluate(PIXELS, data)
    return width, height, colours, first


def test_a_picture_has_the_theme_and_the_density_of_the_lab(shelf: Shelf, tmp_path: Path) -> None:
    shelf.page.emulate_media(color_scheme="dark")
    shelf.lab.open()
    shelf.page.evaluate("localStorage.setItem('superpose.view', 'ladder')")
    shelf.open(rows=3)
    shelf.choose("first")
    assert pixels(shelf, picture(shelf, "PNG"))[3] == [16, 19, 24]
    picture(shelf, "SVG").save_as(tmp_path / "dark.svg")
    assert 'fill="#101318"' in (tmp_path / "dark.svg").read_text()
    record = shelf.record(shelf.listed()[0]["id"])
    steps = {e.attrib.get("data-step"): e for e in drawn(tmp_path / "dark.svg")[0].iter(f"{SVG}g")}
    for step in (step for step in record["steps"] if step["kind"] == "mixture" and step["phase"] == "thinking"):
        heights = [float(rect.attrib["height"]) for rect in steps[str(step["step"])].iter(f"{SVG}rect")]
        assert heights[:-1] == [13] * min(11, len(step["fed"]) + bool(step.get("fed_rest")))


def lines(lab: Lab, steps: int, last: dict[str, Any], user: str) -> str:
    """The events of a run, as a file to import."""
    words = (" some", " words", ",", " and", " others", ".\n")
    made = [*lab.beginning(user), *(lab.step_event(i % 800, words[i % 6], step=i) for i in range(steps)), last]
    return "".join(json.dumps({**event, "seq": seq}) + "\n" for seq, event in enumerate(made))


@pytest.fixture
def odd(shelf: Shelf) -> Shelf:
    """Beside the three: one of 8,000 steps, one that failed at once, one that was stopped before its first step."""
    timing = {"queue_s": 0.0, "prefill_s": 0.0, "decode_s": 1.0, "tokens_per_second": 8000.0}
    ends = {
        "long": (8000, {"type": "run_finished", "timing": timing}),
        "broken": (0, {"type": "run_failed", "error": "out of memory at <step> 0"}),
        "stopped": (0, {"type": "run_cancelled"}),
    }
    for topic, (steps, end) in ends.items():
        said = shelf.ask(
            "POST", "/api/import", lines(shelf.lab, steps, {**end, "run": "hook"}, f"{shelf.word} {topic}")
        )
        assert said.status == 201, said.text()
    return shelf


def test_long_and_failed_runs_are_drawn_without_holding_the_page(odd: Shelf, tmp_path: Path) -> None:
    odd.open(rows=6)
    odd.choose("long", "broken", "stopped")
    odd.page.evaluate(BREATH)
    picture(odd, "SVG").save_as(tmp_path / "all.svg")
    svg = odd.page.evaluate("window.breath.longest")
    said = ["".join(group.itertext()) for group in drawn(tmp_path / "all.svg")]
    assert len(said) == 3
    assert sum("The run failed before its first step: out of memory at <step> 0" in each for each in said) == 1
    assert sum("The run was stopped before its first step." in each for each in said) == 1
    assert sum("data-step" in each.attrib for each in ET.parse(tmp_path / "all.svg").iter()) == 8000
    odd.page.evaluate(BREATH)
    width, height, colours, _ = pixels(odd, picture(odd, "PNG"))
    png = odd.page.evaluate("window.breath.longest")
    assert width == 2400 and 15_000 < height <= 16_000 and colours > 20
    expect(odd.toast).to_contain_text("the last steps of 1 run are left out")
    assert svg < 500 and png < 3000, f"longest frames: SVG {svg:.0f} ms, PNG {png:.0f} ms"


def test_too_many_runs_are_refused_in_words(shelf: Shelf) -> None:
    rows = shelf.listed()
    copies = [{**rows[0], "id": f"copy{i}", "name": f"copy {i}"} for i in range(21)]
    shelf.page.route("**/api/runs?*", lambda route: route.fulfill(json={"runs": copies, "next": None, "total": 21}))
    shelf.open(rows=21)
    shelf.table.get_by_role("checkbox", name="Select all shown").check()
    shelf.act("Export")
    option = shelf.page.get_by_role("dialog", name="Export").get_by_role("button", name="Picture (SVG)")
    expect(option).to_be_disabled()
    expect(option).to_contain_text("at most 20 runs; 21 are selected")
    shelf.page.keyboard.press("Escape")
    shelf.rows().last.get_by_role("checkbox").uncheck()
    shelf.act("Export")
    expect(option).to_be_enabled()
    option.click()  # these runs do not exist: one sentence, and no file
    expect(shelf.page.get_by_role("main").get_by_role("alert")).to_contain_text("copy0")
    shelf.refused()
