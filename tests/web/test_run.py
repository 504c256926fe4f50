"""Runs in the browser: what is shown is what happened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Route, expect

if TYPE_CHECKING:
    from tests.web.conftest import Gate, Lab


def shown_rows(lab: Lab) -> dict[str, list[str]]:
    """The inspector's table: token -> fed, believed."""
    rows = lab.inspector.locator("tbody tr, tfoot tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('th,td')].map(cell => cell.innerText.trim()))"
    )
    return {row[0]: row[-2:] for row in rows}


def test_a_run_shows_the_numbers_of_its_record(lab: Lab) -> None:
    lab.page.get_by_role("textbox", name="System prompt").fill("You are careful.")
    lab.start(k=4, T_e=12, T_total=30)
    record = lab.done()
    steps: list[dict[str, Any]] = record["steps"]
    assert record["spec"]["strategy"] == {"name": "non_uniform", "k": 4, "rescale": "none"}
    assert record["spec"]["system"] == "You are careful."
    assert lab.numbers() == [step["step"] for step in steps]
    expect(lab.status).to_contain_text(f"{len(steps)} steps")
    expect(lab.phase1).to_contain_text(record["thinking"]["reason"])
    expect(lab.phase2).to_contain_text(record["answer"]["reason"])
    answer = lab.phase2.locator("[role=option]").evaluate_all("e => e.map(x => x.textContent).join('')")
    assert answer.replace("↵", "") == record["answer"]["text"]

    for step in (steps[0], steps[11], steps[12], steps[-1]):
        lab.step(step["step"]).click()
        expect(lab.inspector.get_by_role("heading", name=f"Step {step['step']} ")).to_be_visible()
        if (more := lab.inspector.get_by_role("button", name="more candidates")).count():
            more.click()
        rows = shown_rows(lab)
        for fed in step["fed"]:
            assert rows[glyphs(fed["text"])][0] == f"{fed['weight']:.3f}"
        for believed in step["believed"]:
            if (name := glyphs(believed["text"])) in rows:  # control characters have names of their own
                assert rows[name][1] == f"{believed['probability']:.3f}"
        rest = next(cells for name, cells in rows.items() if name.startswith("rest of vocabulary"))
        assert rest == ["0", f"{step['tail']:.3f}"]
        expect(lab.inspector).to_contain_text(f"{step['entropy']:.3f} nat")
        expect(lab.inspector).to_contain_text(f"{step['norm_ratio']:.3f}")
        expect(lab.inspector).to_contain_text(f"{step['t_ms']:.1f} ms")
        assert f"step={step['step']}" in wait_for_step(lab, step["step"])
        lab.step(step["step"]).click()


def glyphs(text: str) -> str:
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def wait_for_step(lab: Lab, step: int) -> str:
    expect(lab.page).to_have_url(re.compile(rf"[?&]step={step}\b"))
    return lab.page.url


@pytest.mark.parametrize("strategy", ["nucleus", "inverse_p"])
def test_cells_are_as_high_as_their_weights(lab: Lab, strategy: str) -> None:
    lab.start(strategy, T_e=16, T_total=20)
    record = lab.done()
    heights = lab.phase1.locator(".col").evaluate_all(
        """columns => columns.map(column => {
          const cells = [...column.querySelectorAll('.cell')].map(cell => cell.getBoundingClientRect());
          return {cells: cells.map(({height}) => height), tops: cells.map(({top}) => top)};
        })"""
    )
    assert len(heights) == 16
    for step, drawn in zip(record["steps"], heights, strict=False):
        weights = [fed["weight"] for fed in step["fed"]]
        assert weights == sorted(weights, reverse=True)
        assert drawn["tops"] == sorted(drawn["tops"])
        for weight, height in zip(weights, drawn["cells"], strict=True):
            assert height == pytest.approx(72 * weight, abs=0.5)
        assert sum(drawn["cells"]) == pytest.approx(72, abs=0.5)


def test_sampled_thinking_is_drawn_as_tokens(lab: Lab) -> None:
    lab.start("sample", T_e=15, T_total=30)
    record = lab.done()
    columns = lab.phase1.get_by_role("option", name="sampled")
    expect(columns).to_have_count(15)
    bins = columns.evaluate_all("e => e.map(x => Number(/\\bq([0-4])\\b/.exec(x.className)[1]))")
    bounds = [0.9, 0.5, 0.2, 0.05, 0.0]
    for step, shown in zip(record["steps"], bins, strict=False):
        assert shown == next(i for i, bound in enumerate(bounds) if step["token"]["probability"] >= bound)
    expect(lab.phase1).to_contain_text("T_e = 15 reached")


def test_stop_is_the_servers_word(lab: Lab) -> None:
    lab.start_long()
    expect(lab.step(10)).to_be_attached()
    expect(lab.status).to_contain_text("thinking")
    lab.stop.click()
    record = lab.done("stopped")
    expect(lab.stop).to_be_disabled()
    assert record["status"] == "cancelled"
    assert record["thinking"]["ended_by"] == "cancelled"
    assert lab.numbers() == [step["step"] for step in record["steps"]]
    expect(lab.phase1).to_contain_text(record["thinking"]["reason"])


def test_reload_and_a_second_page_show_the_same_picture(lab: Lab, browser: Browser) -> None:
    lab.start_long()
    expect(lab.step(40)).to_be_attached()
    lab.step(14).click()
    lab.view("Ladder")
    wait_for_step(lab, 14)
    expect(lab.page).to_have_url(re.compile(r"[?&]view=ladder\b"))  # the address follows a moment later
    lab.page.reload()
    expect(lab.step(60)).to_be_attached()
    expect(lab.step(14)).to_have_attribute("aria-selected", "true")
    expect(lab.inspector).to_contain_text("Step 14")
    other_page = browser.new_page()
    other = type(lab)(other_page, lab.url).open(lab.page.url.removeprefix(lab.url))
    expect(other.step(80)).to_be_attached()
    lab.stop.click()
    record = lab.done("stopped")
    other.done("stopped")
    for each in (lab, other):
        assert each.numbers() == list(range(len(record["steps"])))
        expect(each.phase1.locator(".thinking")).to_have_class(re.compile("ladder"))
        expect(each.inspector).to_contain_text("Step 14")
    names = "[...document.querySelectorAll('[role=option]')].map(e => e.getAttribute('aria-label'))"
    assert lab.page.evaluate(names) == other_page.evaluate(names)
    assert other.errors == []
    other_page.close()


def test_a_lost_connection_resumes_without_loss_or_doubling(lab: Lab, gate: Gate) -> None:
    lab.url = gate.url
    lab.open()
    lab.start_long()
    expect(lab.step(10)).to_be_attached()
    gate.cut()
    expect(lab.status).to_contain_text("reconnecting…")
    gate.mend()
    expect(lab.status).to_contain_text("thinking")
    lab.page.context.set_offline(True)
    lab.page.context.set_offline(False)
    seen = len(lab.numbers())
    expect(lab.step(seen + 20)).to_be_attached()
    lab.stop.click()
    record = lab.done("stopped")
    assert lab.numbers() == list(range(len(record["steps"])))
    lab.errors.clear()  # the browser reports each failed attempt


def test_a_stream_that_the_browser_gives_up_is_opened_again(lab: Lab) -> None:
    broken = []

    def refuse(route: Route) -> None:
        broken.append(route.request.url)
        route.fulfill(status=502, body="bad gateway") if len(broken) < 3 else route.continue_()

    lab.page.route(re.compile(r"/api/events\?"), refuse)
    lab.start(T_e=8, T_total=12)
    record = lab.done()
    assert len(broken) == 3
    assert lab.numbers() == [step["step"] for step in record["steps"]]
    lab.errors.clear()  # the browser reports each 502


def test_an_unknown_run_says_so(lab: Lab) -> None:
    lab.open("/run/nowhere?step=3")
    expect(lab.status).to_contain_text("no such run")
    expect(lab.page.get_by_text("waits for its turn")).to_have_count(0)
    expect(lab.stop).to_be_disabled()
    lab.errors.clear()  # the browser reports the 404


def test_recent_runs_lead_to_their_pages(lab: Lab) -> None:
    lab.start(user="Zebra crossing?", T_e=4, T_total=6)
    lab.done()
    first = lab.run
    lab.start(user="Something else?", T_e=4, T_total=6)
    lab.done()
    lab.page.get_by_role("button", name="Recent runs").click()
    lab.page.get_by_label("Search runs").fill("Zebra")
    lab.page.get_by_role("link", name="Zebra crossing?").first.click()
    expect(lab.page).to_have_url(re.compile(first))
    expect(lab.inspector).to_contain_text("non_uniform")
    assert lab.done()["spec"]["user"] == "Zebra crossing?"
    lab.page.go_back()
    assert lab.done()["spec"]["user"] == "Something else?"
