"""What holds for every state of the page: accessibility, reflow, speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.web.conftest import Lab

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(lab: Lab, only: dict[str, Any] | None = None) -> list[str]:
    options = {"runOnly": only or {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    found: dict[str, Any] = Axe().run(lab.page, options=options).response
    return [
        f"{each['impact']} {each['id']}: {node['html'][:160]}" for each in found["violations"] for node in each["nodes"]
    ]


def audit(lab: Lab, state: str, found: dict[str, list[str]]) -> None:
    """All rules in the light theme, colours in the dark one as well: nothing else depends on it."""
    found[state] = violations(lab)
    lab.page.emulate_media(color_scheme="dark")
    expect(lab.page.locator("html")).to_have_attribute("data-theme", "dark")
    found[f"{state}, dark"] = violations(lab, {"type": "rule", "values": ["color-contrast"]})
    lab.page.emulate_media(color_scheme="light")


def test_axe_finds_nothing_in_any_state(lab: Lab) -> None:
    found: dict[str, list[str]] = {}
    lab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    audit(lab, "empty", found)
    lab.append([*lab.beginning(), *(lab.step_event(i, " word") for i in range(20))])
    expect(lab.status).to_contain_text("thinking")
    audit(lab, "running", found)
    lab.start(T_e=20, T_total=60)
    lab.done()
    lab.step(4).click()
    lab.step(30).hover()
    expect(lab.page.get_by_role("tooltip")).to_be_visible()
    lab.page.get_by_role("button", name="Show as table").click()
    audit(lab, "done", found)
    lab.page.get_by_role("button", name="Show as table").click()
    lab.view("Text")
    lab.phase2.get_by_role("button", name="Rendered").click()
    expect(lab.phase2.locator(".prose")).to_be_visible()
    lab.page.get_by_role("button", name="Model:").click()
    audit(lab, "text, rendered and models", found)
    lab.page.keyboard.press("Escape")
    lab.page.get_by_label("T_e", exact=True).fill("300000")
    lab.append([{"type": "run_failed", "run": "x", "seq": 10**6, "error": "out of memory at step 3"}])
    expect(lab.status).to_contain_text("failed")
    audit(lab, "error", found)
    assert {state: faults for state, faults in found.items() if faults} == {}


OVERLAPS = """() => {
  const words = [...document.querySelectorAll('[role=status] .text, [role=status] .numbers > span')];
  const buttons = [...document.querySelectorAll('.bar button')].filter(button => button.offsetParent);
  const boxes = of => of.flatMap(one => [...one.getClientRects()]);
  return boxes(words).flatMap(a => boxes(buttons).filter(b =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length;
}"""


def test_what_a_run_says_of_itself_stands_clear_of_its_buttons(lab: Lab) -> None:
    lab.open("/").start_long()
    expect(lab.page.locator("[role=status] .numbers")).to_contain_text("left")
    expect(lab.page.locator("[role=status] .numbers")).to_contain_text("tokens/s")
    share = lab.page.get_by_role("button", name="Share")
    below = (
        "share => document.querySelector('#share').getBoundingClientRect().top - share.getBoundingClientRect().bottom"
    )
    beside = """share => {
        const [menu, button] = [document.querySelector('#share'), share].map((each) => each.getBoundingClientRect());
        const inside = menu.left >= 0 && menu.right <= innerWidth && menu.bottom <= innerHeight;
        return inside && (Math.abs(menu.left - button.left) < 1 || menu.right >= innerWidth - 12) ? 'under' : menu.left;
    }"""
    for width in (1600, 1440, 1280, 1100, 1024, 800, 641, 640, 390, 320):
        lab.page.set_viewport_size({"width": width, "height": 800})
        assert lab.page.evaluate(OVERLAPS) == 0, width
        share.click()
        expect(lab.page.get_by_role("dialog", name="Share")).to_be_visible()
        assert share.evaluate(below) >= 0, width
        assert share.evaluate(beside) == "under", width
        if width == 1440:  # the bar takes another row
            share.evaluate("share => (share.closest('.bar').style.paddingTop = '60px')")
            lab.page.wait_for_timeout(100)
            assert share.evaluate(below) >= 0, "moved"
            share.evaluate("share => (share.closest('.bar').style.paddingTop = '')")
        share.click()
    lab.stop.click()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_step_that_a_link_names_stands_below_what_lies_over_the_page(lab: Lab, width: int) -> None:
    lab.page.set_viewport_size({"width": width, "height": 500})
    lab.open("/").append([*lab.beginning(), *(lab.step_event(i, f" step{i}") for i in range(400))])
    lab.step(200).scroll_into_view_if_needed()
    lab.step(300).evaluate("step => step.scrollIntoView({block: 'start'})")
    over = lab.page.locator(".bar").first.bounding_box()
    step = lab.step(300).bounding_box()
    assert over and step and over["y"] + over["height"] <= step["y"]


@pytest.mark.parametrize("width", [390, 320])
def test_narrow_screens_need_no_sideways_scrolling(lab: Lab, width: int) -> None:
    lab.page.set_viewport_size({"width": width, "height": 700})
    lab.open("/")
    sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not lab.page.evaluate(sideways), "empty"
    lab.start(T_e=30, T_total=60)
    lab.done()
    for view in ("Stack", "Ladder", "Text"):
        lab.view(view)
        assert not lab.page.evaluate(sideways), view
    last = lab.numbers()[-1]
    lab.step(last).click()
    lab.page.wait_for_timeout(200)
    sheet = lab.inspector.bounding_box()
    assert sheet and sheet["x"] == 0 and sheet["width"] == width
    assert sheet["y"] + sheet["height"] == pytest.approx(700, abs=1)
    assert not lab.page.evaluate(sideways), "with a step"
    step = lab.step(last).bounding_box()
    assert step and step["y"] + step["height"] <= sheet["y"], "the pinned step lies under the sheet"
    small = lab.page.evaluate(
        """[...document.querySelectorAll('button, select, input, a, summary')]
          .filter(e => e.checkVisibility() && e.tabIndex >= 0)
          .map(e => [e.getBoundingClientRect(), e])
          .filter(([r]) => r.width < 24 || r.height < 24).map(([, e]) => e.outerHTML.slice(0, 120))"""
    )
    assert small == []


CONTROL = """steps => {
  const root = document.createElement('div');
  document.body.append(root);
  const times = [];
  let block = null;
  for (let i = 0; i < steps; i += 10) {
    const begin = performance.now();
    for (let j = i; j < i + 10; j++) {
      if (j % 128 === 0) {
        block = document.createElement('div');
        block.style.cssText = 'content-visibility:auto;contain-intrinsic-size:auto 100px';
        root.append(block);
      }
      const token = document.createElement('span');
      token.textContent = ' word' + j;
      block.append(token);
    }
    document.body.offsetHeight;
    times.push(performance.now() - begin);
  }
  root.remove();
  return times.reduce((sum, time) => sum + time, 0) / times.length; // a median would be below the clock's grain
}"""
APPEND = """async ([thinking, answer]) => {
  const words = [' the', ' sum', ' of', ' 25', ' and', ' 17', ',', ' which', ' makes', ' 42', '.'];
  const batches = [];
  for (let at = 0; at < 8000; at += 10) {
    batches.push(Array.from({length: 10}, (_, i) => {
      const step = at + i;
      const text = step % 60 ? words[(step * 7) % 11] : '\\n';
      const like = step < 4000 ? thinking : answer;
      return {...like, step, seq: step + 10, text, token: {...like.token, text}};
    }));
  }
  await new Promise(done => setTimeout(done, 200));
  const long = [];
  const seen = new PerformanceObserver(list => long.push(...list.getEntries().map(entry => entry.duration)));
  seen.observe({type: 'longtask'});
  const times = [];
  for (const batch of batches) {
    const begin = performance.now();
    window.__superpose.append(batch);
    document.body.offsetHeight;
    times.push(performance.now() - begin);
    if (times.length % 4 === 0) await new Promise(requestAnimationFrame);
  }
  await new Promise(done => setTimeout(done, 200));
  seen.disconnect();
  times.sort((a, b) => a - b);
  return {median: times[times.length >> 1], p95: times[Math.floor(times.length * 0.95)], longest: Math.max(0, ...long)};
}"""


@pytest.mark.parametrize("view", ["Stack", "Text"])
def test_eight_thousand_steps_stay_fast(lab: Lab, view: str, record_property: Any) -> None:
    step = [lab.step_event(0, ""), lab.step_event(0, "", phase="answer")]
    for attempt in range(3):  # a busy machine takes the processor away now and then; our own slowness stays
        lab.open()
        lab.append(lab.beginning())
        lab.view(view)
        control = lab.page.evaluate(CONTROL, 8000)
        measured = lab.page.evaluate(APPEND, step)
        print(f"{view}, attempt {attempt}: {measured}, plain DOM {control:.3f} ms")
        slow = max(1.0, control / 0.03)  # how much slower this machine is than the one the budget was set on
        if measured["median"] < 2 * slow and measured["longest"] < 100 * slow:
            break
    for name, value in {**measured, "control": control}.items():
        record_property(name, value)
    assert len(lab.numbers()) == 8000
    assert measured["median"] < 2 * slow
    assert measured["longest"] < 100 * slow


NOTE_ARRIVAL = """
const Source = window.EventSource;
window.EventSource = class extends Source {
    constructor(...given) {
        super(...given);
        this.addEventListener('message', event => {
            if (event.data.includes('"type":"step"')) window.arrived ??= performance.now();
        });
    }
};"""
PAINTED = """() => new Promise(done => {
    const look = () => {
        if (!document.querySelector('section[aria-label="Phase 1"] [role=option]')) return requestAnimationFrame(look);
        requestAnimationFrame(() => done(performance.now() - window.arrived));  // by this frame it is painted
    };
    look();
})"""


def test_the_first_token_is_painted_within_100_ms(lab: Lab) -> None:
    """After it has come from the server; the best of three, as the machine may be busy."""
    lab.page.add_init_script(NOTE_ARRIVAL)
    times = []
    for _ in range(3):
        lab.open("/")
        lab.start(T_e=10, T_total=20)
        times.append(lab.page.evaluate(PAINTED))
        lab.done()
    assert 0 < min(times) < 100, f"painted after {', '.join(f'{t:.0f}' for t in times)} ms"
