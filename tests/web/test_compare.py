"""Runs side by side: where they part is where their records part."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Locator, expect

from tests.web.test_quality import CONTROL, audit, violations

if TYPE_CHECKING:
    from tests.web.conftest import Gate, Lab

APART = 0.05


def open_compare(lab: Lab, path: str = "/compare?view=stack") -> Locator:
    lab.page.goto(lab.url + path)
    expect(pane(lab, "A")).to_be_visible()
    return status(lab)


def status(lab: Lab) -> Locator:
    return lab.page.locator("#compare").get_by_role("status")


def pane(lab: Lab, letter: str) -> Locator:
    return lab.page.get_by_role("article", name=f"Pane {letter}")


def run_all(
    lab: Lab, seed: int = 7, repeats: int = 1, user: str = "What is 25 + 17?", panes: int = 2
) -> list[list[str]]:
    """Runs what the page has; the ids by pane."""
    lab.page.get_by_role("textbox", name="User prompt").fill(user)
    lab.page.get_by_role("textbox", name="Seed").fill(str(seed))
    lab.page.get_by_role("spinbutton", name="Repeats").fill(str(repeats))
    lab.page.get_by_role("button", name="Run all").click()
    expect(status(lab)).to_have_text(f"all {panes} done", timeout=30_000)
    return ids(lab)


def ids(lab: Lab) -> list[list[str]]:
    expect(lab.page).to_have_url(re.compile(r"[?&]runs="))
    found = re.search(r"[?&]runs=([^&#]*)", lab.page.url)
    assert found
    return [part.split(".") for part in found[1].split(",")]


def record(lab: Lab, run: str) -> dict[str, Any]:
    found: dict[str, Any] = lab.page.request.get(f"{lab.url}/api/runs/{run}").json()
    return found


def start(lab: Lab, **spec: Any) -> str:
    made = lab.page.request.post(f"{lab.url}/api/runs", data={"user": "What is 25 + 17?", "seed": 7, **spec})
    run: str = made.json()["id"]
    for _ in range(200):
        if record(lab, run)["status"] == "finished":
            return run
        lab.page.wait_for_timeout(50)
    raise AssertionError("the run does not end")


def variation(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The total variation of what two steps were fed."""
    weights: dict[int, float] = {fed["id"]: fed["weight"] for fed in one["fed"]}
    for fed in other["fed"]:
        weights[fed["id"]] = weights.get(fed["id"], 0.0) - fed["weight"]
    return sum(map(abs, weights.values())) / 2


def parting(one: dict[str, Any], other: dict[str, Any]) -> tuple[int | None, int | None]:
    """First steps with another readout, and before it with another mixture."""
    pairs = list(zip(one["steps"], other["steps"], strict=False))
    readout = next((i for i, (a, b) in enumerate(pairs) if a["token"]["id"] != b["token"]["id"]), None)
    if readout is None and len(one["steps"]) != len(other["steps"]):
        readout = len(pairs)
    fed = next((i for i, (a, b) in enumerate(pairs[:readout]) if variation(a, b) > APART), None)
    return readout, fed


def shown_parting(lab: Lab, letter: str) -> tuple[int | None, int | None]:
    text = pane(lab, letter).locator(".parting").inner_text()
    signs = [re.search(rf"{sign} (\d+)", text) for sign in "◆◇"]
    readout, fed = (int(found[1]) if found else None for found in signs)
    return readout, fed


def test_two_strategies_part_where_their_records_part(lab: Lab) -> None:
    open_compare(lab)
    (one,), (two,) = run_all(lab, seed=752626286)  # the mixture parts first, the readout some steps later
    first, second = record(lab, one), record(lab, two)
    assert first["spec"]["seed"] == second["spec"]["seed"] == 752626286
    assert [first["spec"]["strategy"]["name"], second["spec"]["strategy"]["name"]] == ["non_uniform", "sample"]
    expected = parting(first, second)
    assert None not in expected
    assert shown_parting(lab, "B") == expected
    lab.page.get_by_role("button", name=f"◆ {expected[0]}").click()
    expect(lab.page).to_have_url(re.compile(rf"[?&]step={expected[0]}\b"))
    for letter, found in (("A", first), ("B", second)):
        step = found["steps"][expected[0]]
        rows = pane(lab, letter).get_by_role("region", name="Step").locator("tbody tr")
        shown = rows.evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('td')].slice(1).map(e => e.innerText))"
        )
        assert [row[0] for row in shown[: len(step["fed"])]] == [f"{fed['weight']:.3f}" for fed in step["fed"]][:5]
    before = lab.page.locator("#compare").inner_text()
    lab.page.reload()
    expect(status(lab)).to_have_text("all 2 done")
    expect(lab.page.locator("#compare .text").first).to_contain_text("25")
    expect(lab.page.get_by_role("button", name="Run all")).to_be_disabled()  # it is what the form would run
    assert lab.page.locator("#compare").inner_text() == before
    lab.page.get_by_role("button", name="Make reference").click()
    expect(lab.page).to_have_url(re.compile(rf"[?&]ref={two}"))
    assert shown_parting(lab, "A") == expected


def test_keys_choose_the_view_of_all_panes(lab: Lab) -> None:
    open_compare(lab)
    run_all(lab)
    for key, view in (("2", "ladder"), ("3", "text"), ("1", "stack")):
        lab.page.locator("body").press(key)
        for letter in "AB":
            expect(pane(lab, letter).locator(".thinking")).to_have_class(re.compile(rf"\b{view}\b"))
        expect(lab.page).to_have_url(re.compile(f"view={view}"))
    lab.page.get_by_role("textbox", name="User prompt").press("3")  # typed text is text
    expect(pane(lab, "A").locator(".thinking")).to_have_class(re.compile(r"\bstack\b"))


def test_ways_of_feeding_like_weights_are_told_apart(lab: Lab) -> None:
    one, two = start(lab, T_e=20, T_total=30), start(lab, T_e=20, T_total=30, strategy="element_wise_max")
    open_compare(lab, f"/compare?runs={one},{two}")
    expect(status(lab)).to_have_text("all 2 done")
    records = record(lab, one), record(lab, two)
    readout, fed = parting(*records)
    shown = shown_parting(lab, "B")
    assert shown[0] == readout
    if fed is None:
        assert shown[1] == 0
        expect(pane(lab, "B")).to_contain_text("combined otherwise")
    else:
        assert shown[1] == fed


def test_old_runs_of_other_prompts_say_what_differs(lab: Lab) -> None:
    one, two = start(lab, T_e=4, T_total=8), start(lab, T_e=4, T_total=9, user="Which is larger?", seed=8)
    open_compare(lab, f"/compare?runs={one},{two}")
    expect(lab.page.locator("#compare")).to_contain_text("B has another prompt, another seed than A.")
    table = lab.page.get_by_role("region", name="Settings as a table")
    expect(table.locator("tbody th")).to_have_text(["T_total", "seed", "user"])
    lab.page.get_by_label("only different").uncheck()
    expect(table).to_contain_text("answer.top_p")
    expect(lab.page.get_by_role("textbox", name="User prompt")).to_have_value("What is 25 + 17?")
    lab.page.get_by_role("button", name="Run B").click()  # with the prompt and the seed of A
    expect(lab.page.locator("#compare")).not_to_contain_text("another prompt")
    expect(status(lab)).to_have_text("all 2 done")
    assert ids(lab)[0] == [one]
    assert record(lab, ids(lab)[1][0])["spec"]["seed"] == 7


def test_repeats_are_grouped_as_their_records_are(lab: Lab) -> None:
    open_compare(lab)
    groups = run_all(lab, repeats=6, user="What is 2 + 2?")
    assert [len(group) for group in groups] == [6, 6]
    expect(pane(lab, "B")).to_contain_text(re.compile(r"6 seeds · \d+ distinct"), timeout=20_000)
    expect(pane(lab, "A")).to_contain_text(re.compile(r"6 seeds · \d+ distinct"))
    for letter, group in zip("AB", ids(lab), strict=True):
        records = [record(lab, run) for run in group]
        assert sorted(found["spec"]["seed"] for found in records) == list(range(7, 13))
        texts = [" ".join(found["answer"]["text"].split()) for found in records]
        counts = sorted((texts.count(text) for text in set(texts)), reverse=True)
        assert pane(lab, letter).locator(".count").locator("visible=true").all_inner_texts()[-len(counts) :] == [
            str(count) for count in counts
        ]
    other = ids(lab)[0][1]
    seed = record(lab, other)["spec"]["seed"]
    group = pane(lab, "A").locator("details").filter(has_text=f"seed {seed}")
    if group.get_attribute("open") is None:
        group.locator("summary").click()
    pane(lab, "A").get_by_role("button", name=f"seed {seed}", exact=True).click()
    expect(lab.page).to_have_url(re.compile(rf"[?&]runs={other}\."))
    expect(pane(lab, "A")).to_contain_text(f"Steps of seed {seed}")
    expect(pane(lab, "A").locator("[data-step]")).to_have_count(len(record(lab, other)["steps"]))
    pane(lab, "A").get_by_role("button", name="Final number").click()
    expect(lab.page).to_have_url(re.compile(r"[?&]by=number"))
    lab.page.reload()
    expect(pane(lab, "A").get_by_role("button", name="Final number")).to_have_attribute("aria-pressed", "true")
    expect(pane(lab, "A")).to_contain_text(f"Steps of seed {seed}")
    expect(lab.page.get_by_role("textbox", name="Seed")).to_have_value("7")
    expect(lab.page.get_by_role("button", name="Run all")).to_be_disabled()


def test_a_fork_and_its_parent_open_at_the_fork(lab: Lab) -> None:
    parent = start(lab, T_e=20, T_total=40)
    made = lab.page.request.post(f"{lab.url}/api/runs/{parent}/fork", data={"step": 6, "strategy": "sample"})
    child = made.json()["id"]
    open_compare(lab, f"/compare?runs={parent},{child}")
    expect(lab.page).to_have_url(re.compile(r"[?&]step=6\b"))
    expect(pane(lab, "B").get_by_role("region", name="Step 6")).to_be_visible()


def test_a_run_is_compared_with_what_one_adds(lab: Lab) -> None:
    lab.start(T_e=6, T_total=12)
    lab.done()
    run = lab.run
    lab.page.get_by_role("button", name="Compare with…").click()
    dialog = lab.page.get_by_role("dialog", name="Add a pane")
    dialog.get_by_role("combobox", name="Strategy").select_option("dirichlet")
    dialog.get_by_label("T_e", exact=True).fill("90")
    expect(dialog.get_by_role("button", name="Add")).to_be_disabled()
    expect(dialog).to_contain_text("T_e must be at most T_total")
    dialog.get_by_label("T_e", exact=True).fill("6")
    dialog.get_by_label("k", exact=True).fill("3")
    dialog.get_by_role("button", name="Add").click()
    expect(pane(lab, "B")).to_contain_text("not run yet")
    lab.page.wait_for_timeout(300)
    lab.page.reload()  # the address holds what is not run yet
    expect(pane(lab, "B")).to_contain_text("dirichlet")
    lab.page.get_by_role("button", name="Run B").click()
    expect(status(lab)).to_have_text("all 2 done")
    assert ids(lab)[0] == [run]
    found = record(lab, ids(lab)[1][0])["spec"]
    assert (found["strategy"]["name"], found["strategy"]["k"], found["T_e"], found["T_total"]) == (
        "dirichlet",
        3,
        6,
        12,
    )
    assert (found["user"], found["seed"]) == ("What is 25 + 17?", 7)
    lab.page.go_back()
    expect(pane(lab, "B")).to_contain_text("not run yet")


def test_stop_all_and_a_lost_connection(lab: Lab, gate: Gate) -> None:
    lab.url = gate.url
    long = '{"strategy":"%s","values":{"T_e":"2000","T_total":"2000","end_probability":""}}'
    panes = ",".join(long % name for name in ("non_uniform", "dirichlet"))
    open_compare(lab, f'/compare#{{"user":"What is 25 + 17?","seed":"7","repeats":1,"panes":[{panes}]}}')
    lab.page.get_by_role("button", name="Run all").click()
    expect(pane(lab, "B").locator("[data-step]").nth(10)).to_be_attached()
    screens = lab.page.get_by_role("navigation", name="Screens")
    screens.get_by_role("link", name="Models").click()
    screens.get_by_role("link", name="Compare").click()  # it goes on where it was left
    expect(lab.page).to_have_url(re.compile(r"[?&]runs="))
    left = pane(lab, "A").locator("[data-step]").count()
    expect(pane(lab, "A").locator("[data-step]").nth(left + 10)).to_be_attached()
    gate.cut()
    expect(status(lab)).to_have_text("reconnecting…")
    gate.mend()
    seen = pane(lab, "B").locator("[data-step]").count()
    expect(pane(lab, "B").locator("[data-step]").nth(seen + 20)).to_be_attached()
    lab.page.get_by_role("button", name="Stop all").click()
    expect(status(lab)).to_have_text("all 2 done", timeout=20_000)
    for letter, (run,) in zip("AB", ids(lab), strict=True):
        shown = pane(lab, letter).locator("[data-step]").evaluate_all("e => e.map(x => Number(x.dataset.step))")
        assert shown == list(range(len(record(lab, run)["steps"])))
        assert record(lab, run)["status"] == "cancelled"
    lab.errors.clear()  # the browser reports each failed attempt


def test_axe_finds_nothing(lab: Lab) -> None:
    found: dict[str, list[str]] = {}
    lab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    open_compare(lab)
    audit(lab, "not run", found)
    lab.page.get_by_role("button", name="+ Pane").click()
    lab.page.get_by_role("button", name="Add", exact=True).wait_for()
    found["picker"] = violations(lab)
    lab.page.get_by_role("button", name="Cancel").click()
    run_all(lab, repeats=3)
    expect(pane(lab, "B")).to_contain_text(re.compile(r"3 seeds · \d+ distinct"), timeout=20_000)
    pane(lab, "B").get_by_role("button", name="◆").click()
    lab.page.get_by_role("button", name="Show as table").click()
    audit(lab, "done", found)
    lab.page.get_by_role("textbox", name="User prompt").fill("")
    lab.page.get_by_role("button", name="Run all").click()
    expect(lab.page.locator("#compare")).to_contain_text("Write a user prompt first")
    audit(lab, "error", found)
    assert {state: faults for state, faults in found.items() if faults} == {}


@pytest.mark.parametrize("width", [390, 320])
def test_panes_stack_on_narrow_screens(lab: Lab, width: int) -> None:
    lab.page.set_viewport_size({"width": width, "height": 700})
    open_compare(lab)
    run_all(lab, repeats=2)
    pane(lab, "B").get_by_role("button", name="◆").click()
    for view in ("Stack", "Ladder", "Text"):
        lab.page.locator("#compare").get_by_role("button", name=view, exact=True).first.click()
        assert not lab.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"), (
            view
        )
    one, two = pane(lab, "A").bounding_box(), pane(lab, "B").bounding_box()
    assert one and two and two["y"] >= one["y"] + one["height"]
    small = lab.page.evaluate(
        """[...document.querySelectorAll('#compare :is(button, select, input, a, summary)')]
          .filter(e => e.checkVisibility() && e.tabIndex >= 0)
          .map(e => [(e.closest('label') ?? e).getBoundingClientRect(), e])
          .filter(([r]) => r.width < 24 || r.height < 24).map(([, e]) => e.outerHTML.slice(0, 120))"""
    )
    assert small == []


APPEND = """async ([begin, thinking, answer]) => {
  const words = [' the', ' sum', ' of', ' 25', ' and', ' 17', ',', ' which', ' makes', ' 42', '.'];
  window.__superpose.compare([0, 1, 2, 3].map(() => begin));
  const batches = [];
  for (let at = 0; at < 8000; at += 10) {
    batches.push([0, 1, 2, 3].map(pane => Array.from({length: 10}, (_, i) => {
      const step = at + i;
      const text = step % 60 ? words[(step * 7 + (step > 50 ? pane : 0)) % 11] : '\\n';
      const like = step < 4000 ? thinking : answer;
      return {...like, step, seq: step + 10, text, token: {...like.token, id: words.indexOf(text), text}};
    })));
  }
  await new Promise(done => setTimeout(done, 200));
  const times = [];
  for (const batch of batches) {
    const begin = performance.now();
    window.__superpose.compare(batch);
    document.body.offsetHeight;
    times.push(performance.now() - begin);
    if (times.length % 20 === 0) await new Promise(done => requestAnimationFrame(done));
  }
  times.sort((a, b) => a - b);
  return {median: times[times.length >> 1], p95: times[Math.floor(times.length * 0.95)]};
}"""


def test_four_panes_of_8000_steps_stay_within_the_budget(lab: Lab, record_property: Any) -> None:
    """4 ms for ten steps of all four, on the machine that the budget was set on; the best of two attempts."""
    for _ in range(2):
        open_compare(lab, "/compare#" + '{"user":"hi","panes":[{},{},{},{}]}')
        expect(pane(lab, "D")).to_be_visible()
        control = lab.page.evaluate(CONTROL, 8000)
        thinking, answer = lab.step_event(0, " word"), lab.step_event(0, " word", phase="answer")
        measured = lab.page.evaluate(APPEND, [lab.beginning(), thinking, answer])
        slow = max(1.0, control / 0.03)
        print(f"{measured}, plain DOM {control:.3f} ms")
        if measured["median"] < 4 * slow:
            break
        lab.page.goto("about:blank")
    for name, value in {**measured, "control": control}.items():
        record_property(name, value)
    assert lab.page.locator("#compare [data-step]").count() == 4 * 8000
    assert shown_parting(lab, "B")[0] == 51
    assert measured["median"] < 4 * slow
