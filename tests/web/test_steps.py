"""Steps under the pointer, under the keys, and in texts that mean harm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.web.conftest import Lab


def test_keys_walk_over_the_steps(lab: Lab) -> None:
    lab.start(T_e=10, T_total=20)
    record = lab.done()
    last = len(record["steps"]) - 1
    step = record["steps"][0]
    first, second = step["fed"][:2]
    name = f"step 0, mixture, {first['text']} {first['weight']:.0%}, {second['text']} {second['weight']:.0%}, 3 more"
    expect(lab.step(0)).to_have_accessible_name(name.replace("%", " percent"))
    stops = lab.page.locator("[role=option][tabindex='0']")
    expect(stops).to_have_count(2)  # one for each phase
    lab.step(0).focus()
    for key, at in [("ArrowRight", 1), ("End", 11), ("ArrowRight", 12), ("End", last), ("Home", 12), ("ArrowLeft", 11)]:
        lab.page.keyboard.press(key)
        expect(lab.step(at)).to_be_focused()
    lab.page.keyboard.press("Home")
    lab.page.keyboard.press("ArrowRight")
    expect(lab.page.get_by_role("tooltip")).to_contain_text("step 1 · mixture")
    lab.page.keyboard.press("Enter")
    expect(lab.inspector).to_contain_text("Step 1")
    expect(lab.page.get_by_role("tooltip")).to_be_hidden()
    lab.page.keyboard.press("ArrowRight")
    expect(lab.inspector).to_contain_text("Step 2")
    expect(stops).to_have_count(2)
    lab.page.keyboard.press("Tab")
    lab.page.keyboard.press("Shift+Tab")
    expect(lab.step(2)).to_be_focused()
    lab.page.keyboard.press("Escape")
    expect(lab.inspector).to_contain_text("Press a step")
    for key, view in [("2", "ladder"), ("3", "text"), ("1", "stack")]:
        lab.page.keyboard.press(key)
        expect(lab.phase1.locator(".thinking")).to_have_class(re.compile(view))
        expect(lab.page).to_have_url(re.compile(f"view={view}"))
    lab.page.keyboard.press("?")
    expect(lab.page.get_by_role("dialog", name="Keys")).to_be_visible()


def test_pointer_shows_a_card_and_the_timeline_shares_the_cursor(lab: Lab) -> None:
    lab.start(T_e=10, T_total=20)
    lab.done()
    card = lab.page.get_by_role("tooltip")
    lab.step(3).hover()
    expect(card).to_contain_text("step 3 · mixture")
    chart = lab.page.get_by_role("img", name="Entropy of each step")
    box = chart.bounding_box()
    assert box
    chart.hover(position={"x": box["width"] / 2, "y": 40})
    expect(card).to_be_hidden()
    hovered = lab.page.locator("[role=option].hov")
    expect(hovered).to_have_count(1)
    step = hovered.get_attribute("data-step")
    chart.click(position={"x": box["width"] / 2, "y": 40})
    expect(lab.inspector).to_contain_text(f"Step {step}")
    lab.page.get_by_role("button", name="Show as table").click()
    rows = lab.page.get_by_role("region", name="Steps as a table").get_by_role("row")
    expect(rows).to_have_count(len(lab.numbers()) + 1)


def test_a_legend_bin_dims_the_others(lab: Lab) -> None:
    lab.start(T_e=10, T_total=20)
    lab.done()
    heavy = lab.phase1.get_by_role("button", name="weight at least .6")
    heavy.click()
    expect(heavy).to_have_attribute("aria-pressed", "true")
    dimmed = ".cell:not(.w4)"
    assert lab.phase1.locator(dimmed).first.evaluate("e => getComputedStyle(e).opacity") == "0.22"
    assert lab.phase1.locator(".cell.w4").first.evaluate("e => getComputedStyle(e).opacity") == "1"
    heavy.click()
    assert lab.phase1.locator(dimmed).first.evaluate("e => getComputedStyle(e).opacity") == "1"


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u202eevil\u202c",
    "مرحبا",
    "👩‍👧",
    "&amp;",
]


def test_hostile_texts_are_texts(lab: Lab) -> None:
    user = " ".join(HOSTILE) + "</textarea>"
    lab.start(user=user, T_e=2, T_total=4)
    lab.done()
    shown = lab.inspector.locator("pre").text_content() or ""
    assert "</script><script>alert(1)</script>" in shown and "⟨202E⟩evil" in shown and "مرحبا" in shown
    lab.open("/")
    steps = [lab.step_event(i, text) for i, text in enumerate(HOSTILE)]
    steps += [lab.step_event(i + len(steps), text, phase="answer") for i, text in enumerate(HOSTILE)]
    lab.append([*lab.beginning(user), *steps])
    for i, text in enumerate(HOSTILE):
        safe = text.replace("\u202e", "⟨202E⟩").replace("\u202c", "⟨202C⟩")
        expect(lab.step(i)).to_contain_text(safe)
        expect(lab.step(i + len(HOSTILE))).to_have_text(safe)
    assert lab.page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    lab.step(1).click()
    expect(lab.inspector).to_contain_text("<img␣src=x␣onerror=alert(1)>")


def test_pieces_of_a_character_close_into_it(lab: Lab) -> None:
    text = ["⟨E2⟩", "⟨80⟩", "⟨94⟩"]
    steps = [lab.step_event(i, piece, phase="answer", text="") for i, piece in enumerate(text)]
    beginning = lab.beginning()
    beginning[0]["spec"]["T_e"] = 0
    lab.append([*beginning, *steps[:2]])
    expect(lab.step(0)).to_have_text("⟨E2⟩")
    lab.append([{**steps[2], "text": "—"}])
    expect(lab.step(2)).to_have_text("—")
    assert lab.page.locator(".t.joined").count() == 3


def test_the_rendered_answer_cannot_act(lab: Lab) -> None:
    answer = ["**bold** ", "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", " $1 + 1 = 2$", " and $5 + "]
    lab.append([*lab.beginning(), *(lab.step_event(i, text, phase="answer") for i, text in enumerate(answer))])
    requests: list[str] = []
    lab.page.on("request", lambda request: requests.append(request.url))
    lab.phase2.get_by_role("button", name="Rendered").click()
    prose = lab.phase2.locator(".prose")
    expect(prose.locator("strong")).to_have_text("bold")
    expect(prose.locator("math")).to_have_count(1)
    expect(prose).to_contain_text("and $5 +")
    assert prose.locator("img, script").count() == 0
    assert [url for url in requests if not url.startswith((f"{lab.url}/assets/", f"{lab.url}/api/"))] == []


def test_following_ends_where_the_reader_looks(lab: Lab) -> None:
    lab.page.set_viewport_size({"width": 900, "height": 500})
    lab.start_long()
    expect(lab.step(150)).to_be_attached(timeout=20_000)
    at_end = "document.getElementById('main').getBoundingClientRect().bottom <= innerHeight + 40"
    assert lab.page.evaluate(at_end)
    lab.page.mouse.move(500, 250)
    lab.page.mouse.wheel(0, -300)
    pill = lab.page.get_by_role("button", name="↓ live")
    expect(pill).to_be_visible()
    place = lab.page.evaluate("scrollY")
    expect(lab.step(len(lab.numbers()) + 20)).to_be_attached()
    assert lab.page.evaluate("scrollY") == place
    pill.click()
    expect(pill).to_be_hidden()
    lab.page.wait_for_function(at_end)
    lab.stop.click()
    lab.done("stopped")
