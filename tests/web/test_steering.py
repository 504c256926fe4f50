"""Steering in the browser: pause and step, edit, force and branch; the server acts, the page follows its events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.web.test_quality import violations

if TYPE_CHECKING:
    from tests.web.conftest import Lab

STEP = 4


def act(lab: Lab, name: str) -> Locator:
    return lab.page.get_by_role("group", name="Run", exact=True).get_by_role("button", name=name)


def paused_at(lab: Lab) -> int:
    expect(lab.status).to_contain_text("paused at step")
    found = re.search(r"paused at step (\d+)", lab.status.inner_text())
    assert found
    return int(found[1])


def finished(lab: Lab, **fields: Any) -> dict[str, Any]:
    """A short run to its end, one of its steps in the inspector."""
    lab.start(T_e=16, T_total=30, **fields)
    record = lab.done()
    lab.step(STEP).click()
    expect(lab.inspector).to_contain_text(f"Step {STEP}")
    return record


def child_of(lab: Lab, parent: dict[str, Any], step: int = STEP) -> dict[str, Any]:
    """The record of the child that the page went to."""
    expect(lab.page).not_to_have_url(re.compile(parent["id"]))
    expect(lab.page).to_have_url(re.compile(rf"[?&]step={step}\b"))
    expect(lab.page.locator(".origin")).to_contain_text(
        f"at step {step}"
    )  # until then it may still say of the parent: done
    child = lab.done()
    fork: dict[str, Any] = child["spec"]["fork"]
    assert (fork["run"], fork["step"]) == (parent["id"], step)
    assert lab.numbers() == list(range(len(child["steps"])))
    return child


def same(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    """Whether two lists of steps are alike in everything but the time they took."""
    return [{**step, "t_ms": 0} for step in a] == [{**step, "t_ms": 0} for step in b]


def weight(lab: Lab, index: int) -> Locator:
    return lab.inspector.get_by_role("spinbutton", name=re.compile("^Weight of")).nth(index)


def test_a_run_is_paused_stepped_and_resumed(lab: Lab) -> None:
    lab.start(T_total=400, T_e=300, **{"End probability": ""})
    expect(lab.step(10)).to_be_attached()
    act(lab, "Pause").click()
    at = paused_at(lab)
    expect(lab.status).to_contain_text(re.compile(r"cache held (5:00|4:5\d), then goes on by replay"))
    expect(lab.page).to_have_title(re.compile("paused"))
    lab.page.wait_for_timeout(150)
    assert lab.numbers() == list(range(at))
    for extra in (1, 2):
        act(lab, "Step").click()
        expect(lab.status).to_contain_text(f"paused at step {at + extra}")
        assert lab.numbers() == list(range(at + extra))
    act(lab, "Resume").click()
    expect(lab.status).to_contain_text("thinking")
    expect(act(lab, "Step")).to_be_disabled()
    record = lab.done()
    assert lab.numbers() == [step["step"] for step in record["steps"]]
    lab.step(at).click()
    expect(lab.inspector).to_contain_text(f"{record['steps'][at]['entropy']:.3f} nat")
    expect(act(lab, "Pause")).to_be_disabled()


def test_a_single_step_holds_the_cache_anew(lab: Lab) -> None:
    lab.page.clock.install()
    lab.start_long()
    expect(lab.step(10)).to_be_attached()
    act(lab, "Pause").click()
    at = paused_at(lab)
    lab.page.clock.run_for(120_000)
    expect(lab.status).to_contain_text(re.compile(r"cache held (3:00|2:5\d)"))
    act(lab, "Step").click()
    expect(lab.status).to_contain_text(f"paused at step {at + 1}")
    expect(lab.status).to_contain_text(re.compile(r"cache held (5:00|4:5\d)"))
    act(lab, "Stop").click()


def test_a_pause_is_seen_in_another_tab_and_lifted_there(lab: Lab, browser: Browser) -> None:
    lab.start_long()
    expect(lab.step(10)).to_be_attached()
    page = browser.new_page()
    other = type(lab)(page, lab.url).open(f"/run/{lab.run}")
    expect(other.step(10)).to_be_attached()
    act(lab, "Pause").click()
    assert paused_at(lab) == paused_at(other)
    page.reload()
    assert paused_at(lab) == paused_at(other)
    expect(other.status).to_contain_text("cache held at most 5:00")
    act(other, "Resume").click()
    for each in (lab, other):
        expect(each.status).to_contain_text("thinking")
    expect(act(lab, "Pause")).to_be_enabled()
    lab.page.keyboard.press("Space")
    paused_at(other)
    lab.page.keyboard.press("s")
    lab.page.keyboard.press(".")
    for each in (lab, other):
        each.done("stopped")
    assert other.errors == []
    page.close()


def test_a_button_settles_where_the_run_is_already_as_was_asked(lab: Lab) -> None:
    lab.start_long()
    expect(lab.step(5)).to_be_attached()
    lab.page.route("**/pause", lambda route: route.fulfill(status=202, json={"id": lab.run, "status": "paused"}))
    act(lab, "Pause").click()  # somebody else's pause, which was lifted in the same step: no event comes
    expect(act(lab, "Pause")).to_have_attribute("aria-busy", "false")
    lab.page.unroute("**/pause")
    act(lab, "Stop").click()


def test_a_branch_of_a_chat_is_drawn_as_a_chat(lab: Lab) -> None:
    lab.start(T_e=0, T_total=30)
    parent = lab.done()
    lab.step(8).click()
    lab.inspector.get_by_role("button", name="Branch here").click()
    lab.inspector.get_by_label("T_e").fill("20")
    lab.inspector.get_by_role("button", name="Branch at step 8").click()
    child = child_of(lab, parent, 8)
    expect(lab.phase2.locator("[role=option]")).to_have_count(len(child["steps"]))
    expect(lab.phase1).to_contain_text("T_e was 0 in the run that this one continues")


def test_a_paused_run_is_stopped(lab: Lab) -> None:
    lab.start_long()
    expect(lab.step(5)).to_be_attached()
    act(lab, "Pause").click()
    at = paused_at(lab)
    lab.stop.click()
    record = lab.done("stopped")
    assert len(record["steps"]) == at
    for name in ("Pause", "Step", "Stop"):
        expect(act(lab, name)).to_be_disabled()


def test_edited_weights_make_a_child_that_differs_from_there_on(lab: Lab) -> None:
    parent = finished(lab)
    lab.page.keyboard.press("e")
    editor = lab.inspector.get_by_role("region", name="Edit weights")
    expect(editor).to_be_focused()
    for index, value in enumerate(("0.3", "0.6", "0.1")):
        weight(lab, index).fill(value)
    ids = [fed["id"] for fed in parent["steps"][STEP]["fed"]]
    was = dict(zip(ids, (fed["weight"] for fed in parent["steps"][STEP]["fed"]), strict=True))
    now = {**was, **dict(zip(ids, (0.3, 0.6, 0.1), strict=False))}
    varied = sum(abs(now[each] - was[each]) for each in ids) / 2
    expect(editor).to_contain_text("1.000")
    expect(editor).to_contain_text(f"{varied:.3f}")
    editor.get_by_role("button", name="Branch with these").click()
    child = child_of(lab, parent)
    assert same(child["steps"][:STEP], parent["steps"][:STEP])
    edited = child["steps"][STEP]
    assert {fed["id"]: fed["weight"] for fed in edited["fed"][:3]} == pytest.approx({i: now[i] for i in ids[:3]})
    assert (edited["kind"], edited["reason"]) == ("mixture", "edited by hand")
    for key in ("believed", "tail", "entropy"):
        assert edited[key] == parent["steps"][STEP][key]  # the past is the same: only what was fed differs
    assert child["steps"][STEP + 1]["believed"] != parent["steps"][STEP + 1]["believed"]
    origin = lab.page.locator(".origin")
    expect(origin).to_contain_text(f"at step {STEP}, weights edited")
    expect(origin).to_contain_text("replay exact")
    expect(lab.step(STEP).locator(".pin")).to_be_visible()
    expect(lab.step(STEP)).to_have_accessible_name(re.compile("edited by hand"))
    outline = (
        lab.step(STEP).locator(".ghost i").evaluate_all("cells => cells.map(c => c.getBoundingClientRect().height)")
    )
    drawn = [72 * each for each in was.values() if 72 * each >= 1]
    assert outline == pytest.approx(drawn, abs=0.5)
    lab.page.reload()
    expect(lab.step(STEP).locator(".ghost i")).to_have_count(len(drawn))
    origin.get_by_role("link").click()
    expect(lab.page).to_have_url(re.compile(f"{parent['id']}.*step={STEP}"))
    assert lab.done()["id"] == parent["id"]
    expect(lab.page.locator(".pin")).to_have_count(0)


def test_the_editor_tells_length_and_nearest_tokens_of_what_would_be_fed(lab: Lab) -> None:
    parent = finished(lab)
    lab.page.keyboard.press("e")
    editor = lab.inspector.get_by_role("region", name="Edit weights")
    ratio = editor.locator("dt", has_text="norm ratio").locator("+ dd")
    nearest = editor.locator("dt", has_text="nearest tokens").locator("+ dd span[title]")
    expect(ratio).to_have_text(f"{parent['steps'][STEP]['norm_ratio']:.3f}")
    weight(lab, 0).fill("0.7")
    expect(ratio).to_have_text("–")  # the sum is off: there is no mixture to measure
    editor.get_by_role("button", name="Normalise", exact=True).click()
    with lab.page.expect_request("**/api/mixture") as asked:
        editor.get_by_label("combined by").select_option("max")
    body = asked.value.post_data_json
    assert (body["model"], body["mixture"]["combine"]) == ("toy", "max")
    told = lab.page.request.post(f"{lab.url}/api/mixture", data=body).json()
    expect(ratio).to_have_text(f"{told['norm_ratio']:.3f}")
    expect(nearest).to_have_count(len(told["nearest"]))
    for at, near in enumerate(told["nearest"]):
        expect(nearest.nth(at)).to_contain_text(f"{near['cosine']:.3f}")
        expect(nearest.nth(at)).to_have_attribute("title", re.compile(f", token {near['id']}$"))
        assert nearest.nth(at).evaluate("node => node.parentElement.scrollWidth <= node.parentElement.clientWidth")
    busy = {"status": 503, "title": "Service Unavailable", "detail": "the model was busy for 10 s; try again"}
    lab.page.route("**/api/mixture", lambda route: route.fulfill(status=503, json=busy))
    editor.get_by_label("combined by").select_option("sum")
    expect(editor).to_contain_text("Norm and nearest tokens are not known: the model was busy for 10 s; try again")
    expect(ratio).to_have_text("–")
    expect(editor.get_by_role("button", name="Branch with these")).to_be_enabled()
    lab.errors.clear()  # the browser reports the 503


def test_an_edited_arc_stays_one(lab: Lab) -> None:
    parent = finished(lab, strategy="slerp")
    assert parent["steps"][STEP]["combine"] == "slerp"
    lab.page.keyboard.press("e")
    editor = lab.inspector.get_by_role("region", name="Edit weights")
    branch = editor.get_by_role("button", name="Branch with these")
    for index, value in enumerate(("0.5", "0.3", "0.2")):
        weight(lab, index).fill(value)
    expect(editor).to_contain_text("An arc lies between two tokens, and 3 have a weight")
    expect(branch).to_be_disabled()
    for index, value in enumerate(("0.4", "0.6", "0")):
        weight(lab, index).fill(value)
    branch.click()
    edited = child_of(lab, parent)["steps"][STEP]
    assert (edited["combine"], sorted(fed["weight"] for fed in edited["fed"])) == ("slerp", pytest.approx([0.4, 0.6]))


def test_a_token_is_forced(lab: Lab) -> None:
    parent = finished(lab)
    lab.page.keyboard.press("f")
    search = lab.inspector.get_by_role("combobox", name="Token to force")
    expect(search).to_be_focused()
    search.press_sequentially("z")
    search.press("Enter")
    button = lab.inspector.get_by_role("button", name="Force z")
    expect(button).to_be_focused()
    button.press("Enter")
    child = child_of(lab, parent)
    assert same(child["steps"][:STEP], parent["steps"][:STEP])
    forced = child["steps"][STEP]
    assert forced["fed"] == [{"id": ord("z"), "text": "z", "weight": 1.0}]
    assert (forced["kind"], forced["reason"]) == ("injected", "forced by hand")
    expect(lab.page.locator(".origin")).to_contain_text("z forced")
    expect(lab.step(STEP).locator(".pin")).to_be_visible()


def test_the_token_search_offers_what_was_believed_and_walks_by_keys(lab: Lab) -> None:
    parent = finished(lab)
    lab.inspector.get_by_role("button", name="Force a token").click()
    search = lab.inspector.get_by_role("combobox", name="Token to force")
    offered = lab.inspector.get_by_role("option")
    second = parent["steps"][STEP]["believed"][1]
    expect(offered).to_have_count(len(parent["steps"][STEP]["believed"]))
    search.press("ArrowDown")
    search.press("ArrowDown")
    expect(offered.nth(1)).to_have_attribute("aria-selected", "true")
    search.press("Enter")
    expect(lab.inspector).to_contain_text(f"was believed with {second['probability']:.3f}")
    search.fill("there is no such token")
    search.press("Enter")
    expect(lab.inspector).to_contain_text("No token has this text.")
    search.press("Escape")
    expect(search).to_have_count(0)
    expect(lab.inspector.get_by_role("button", name="Force a token")).to_be_focused()


def test_a_branch_without_an_edit_repeats_its_parent(lab: Lab) -> None:
    parent = finished(lab)
    lab.step(STEP).press("Enter")
    button = lab.inspector.get_by_role("button", name=f"Branch at step {STEP}")
    expect(button).to_be_focused()
    button.press("Enter")
    child = child_of(lab, parent)
    assert same(child["steps"], parent["steps"])
    assert child["text"] == parent["text"]
    expect(lab.page.locator(".origin")).to_contain_text("replay exact")
    expect(lab.page.locator(".pin")).to_have_count(0)


def test_a_branch_goes_on_with_the_settings_of_the_form(lab: Lab) -> None:
    parent = finished(lab)
    lab.page.get_by_role("combobox", name="Strategy").select_option("sample")
    lab.page.get_by_label("T_e", exact=True).first.fill("10")
    lab.inspector.get_by_role("button", name="Branch here").click()
    lab.inspector.get_by_label("the form’s").check()
    expect(lab.inspector).to_contain_text("sample")
    lab.inspector.get_by_role("button", name=f"Branch at step {STEP}").click()
    child = child_of(lab, parent)
    assert (child["spec"]["strategy"]["name"], child["spec"]["T_e"], child["spec"]["seed"]) == ("sample", 10, 7)
    assert child["spec"]["user"] == parent["spec"]["user"]
    assert [step["kind"] for step in child["steps"][:10]] == ["mixture"] * STEP + ["sampled"] * (10 - STEP)


def test_the_editor_helps_to_a_sum_of_one_and_shows_refusals(lab: Lab) -> None:
    parent = finished(lab)
    fed = [each["weight"] for each in parent["steps"][STEP]["fed"]]
    lab.inspector.get_by_role("button", name="Edit weights").click()
    editor = lab.inspector.get_by_role("region", name="Edit weights")
    branch = editor.get_by_role("button", name="Branch with these")

    def values() -> list[float]:
        fields = lab.inspector.get_by_role("spinbutton", name=re.compile("^Weight of"))
        return [float(each) for each in fields.evaluate_all("fields => fields.map(field => field.title)")]

    weight(lab, 1).fill("0.5")
    weight(lab, 2).fill("0.2")
    editor.get_by_role("button", name=re.compile("^Lock the weight")).nth(1).click()
    expect(branch).to_have_count(0)
    editor.get_by_role("button", name="Normalise to 1").click()
    expect(branch).to_be_enabled()
    assert values()[1] == 0.5
    assert sum(values()) == pytest.approx(1)
    before = values()
    editor.get_by_role("button", name="Sharpen").click()
    assert values()[1] == 0.5
    assert max(values()[0], values()[2]) > max(before[0], before[2])
    editor.get_by_role("button", name="Flatten").click()
    assert values() == pytest.approx(before)
    editor.get_by_role("button", name="Back to what was fed").click()
    assert values()[: len(fed)] == pytest.approx(fed)
    weight(lab, 1).focus()
    editor.get_by_role("button", name=re.compile("^One-hot")).click()
    assert values()[:2] == [0, 1]
    editor.get_by_role("button", name="Back to the model’s").click()
    assert sum(values()) == pytest.approx(1)
    editor.get_by_role("combobox", name="Add a token").fill("#122")
    editor.get_by_role("combobox", name="Add a token").press("Enter")
    expect(editor.get_by_role("spinbutton", name="Weight of z")).to_have_value("0.000")
    expect(editor.get_by_role("spinbutton", name="Weight of z")).to_be_focused()
    editor.get_by_role("button", name="Remove z").click()
    expect(editor.get_by_role("spinbutton", name="Weight of z")).to_have_count(0)
    editor.get_by_label("T_total").fill("3")
    branch.click()
    expect(lab.inspector.get_by_role("alert")).to_contain_text("T_total")
    expect(lab.page).to_have_url(re.compile(parent["id"]))
    lab.errors.clear()  # the browser reports the 400


def test_the_tree_lists_the_family_and_leads_to_a_comparison(lab: Lab) -> None:
    parent = finished(lab)
    lab.inspector.get_by_role("button", name="Branch here").click()
    lab.inspector.get_by_role("button", name=f"Branch at step {STEP}").click()
    child = child_of(lab, parent)
    items = lab.inspector.get_by_role("treeitem")
    expect(items).to_have_count(2)
    expect(items.nth(1)).to_contain_text(re.compile(rf"{child['id']}\s*@{STEP}"))
    expect(items.nth(1)).to_have_attribute("aria-current", "page")
    expect(items.nth(1)).to_have_attribute("aria-level", "2")
    items.nth(1).focus()
    lab.page.keyboard.press("Space")
    lab.page.keyboard.press("ArrowLeft")
    expect(items.nth(0)).to_be_focused()
    lab.page.keyboard.press("Space")
    compare = lab.inspector.get_by_role("link", name="Compare the two")
    expect(compare).to_have_attribute("href", f"/compare?runs={child['id']},{parent['id']}&step={STEP}")
    lab.page.keyboard.press("Enter")
    expect(lab.page).to_have_url(re.compile(f"/run/{parent['id']}"))
    expect(items.nth(0)).to_have_attribute("aria-current", "page")


def test_the_tree_grows_when_another_tab_or_somebody_else_branches(lab: Lab) -> None:
    parent = finished(lab)
    items = lab.inspector.get_by_role("treeitem")
    page = lab.page.context.new_page()
    other = type(lab)(page, lab.url).open(f"/run/{parent['id']}?step={STEP}")
    expect(other.status).to_contain_text("done")
    other.inspector.get_by_role("button", name="Branch here").click()
    other.inspector.get_by_role("button", name=f"Branch at step {STEP}").click()
    child = child_of(other, parent)
    expect(items).to_have_count(2)
    expect(items.nth(1)).to_contain_text(child["id"])
    for at in (2, 3):
        made = lab.page.request.post(f"{lab.url}/api/runs/{child['id']}/fork", data={"step": at})
        assert made.status == 201, made.text()
    lab.page.wait_for_timeout(300)
    expect(items).to_have_count(2)  # nobody told this tab, and it does not keep asking
    lab.page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(items).to_have_count(4)
    assert other.errors == []
    page.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_the_editor_is_accessible_and_hides_no_step(lab: Lab, width: int) -> None:
    lab.page.set_viewport_size({"width": width, "height": 844})
    lab.page.emulate_media(reduced_motion="reduce")
    lab.open("/")
    lab.start(T_e=40, T_total=60)
    lab.done()
    lab.view("Stack")
    lab.step(36).click()
    for panel in ("Force a token", "Branch here", "Edit weights"):
        lab.inspector.get_by_role("button", name=panel, exact=True).click()
        for scheme in ("light", "dark"):
            lab.page.emulate_media(color_scheme=scheme)
            expect(lab.page.locator("html")).to_have_attribute("data-theme", scheme)
            assert violations(lab) == [], f"{panel}, {scheme}"
        assert not lab.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        step, sheet = lab.step(36).bounding_box(), lab.inspector.bounding_box()
        assert step and sheet
        if width == 390:
            assert sheet["width"] == width
            assert sheet["y"] + sheet["height"] == pytest.approx(844, abs=1)
            assert step["y"] + step["height"] <= sheet["y"], f"{panel} lies over the step"
    commit = lab.inspector.get_by_role("button", name="Branch with these").bounding_box()
    assert commit and commit["y"] + commit["height"] <= 844
