"""The Strategies screen, and what strategies beyond the lab's own draw and ask for in the Lab."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.web.test_quality import audit

if TYPE_CHECKING:
    from tests.web.conftest import Lab


def listed(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.page.request.get(f"{lab.url}/api/strategies").json()
    return found


def test_the_picker_groups_what_the_server_lists(lab: Lab) -> None:
    strategies = listed(lab)
    picker = lab.page.get_by_role("combobox", name="Strategy")
    for label, papers in (("From papers", True), ("Experiments", False)):
        wanted = [each["name"] for each in strategies[7:] if (each["paper"] is not None) == papers]
        expect(picker.locator(f"optgroup[label='{label}'] option")).to_have_text(wanted)
    expect(picker.locator("> option")).to_have_text([each["name"] for each in strategies[:7]])


def test_screens_are_links_and_history_leads_back(lab: Lab) -> None:
    lab.start(T_e=4, T_total=6)
    lab.done()
    run = lab.page.url
    screens = lab.page.get_by_role("navigation", name="Screens")
    expect(screens.get_by_role("link", name="Lab")).to_have_attribute("aria-current", "page")
    screens.get_by_role("link", name="Strategies").click()
    main = lab.page.get_by_role("main")
    expect(main.get_by_role("heading", name="Strategies")).to_be_visible()
    expect(main.get_by_role("link")).to_have_count(len(listed(lab)))
    main.get_by_role("link", name=re.compile("^selar")).click()
    expect(lab.page).to_have_url(f"{lab.url}/strategies/selar")
    expect(lab.page).to_have_title(re.compile("selar"))
    expect(main).to_be_focused()
    lab.page.go_back()
    expect(main.get_by_role("heading", name="Strategies")).to_be_visible()
    lab.page.go_back()
    expect(lab.page).to_have_url(re.compile(re.escape(run.split("?")[0])))
    assert lab.numbers() == list(range(len(lab.record()["steps"])))
    lab.page.go_forward()
    screens.get_by_role("link", name="Lab").click()
    expect(lab.page).to_have_url(re.compile(re.escape(run.split("?")[0])))
    expect(lab.status).to_contain_text("done")


def test_a_page_says_what_the_server_says(lab: Lab) -> None:
    strategies = {each["name"]: each for each in listed(lab)}
    for name in ("non_uniform", "selar", "soft_thinking"):
        about = strategies[name]
        lab.page.goto(f"{lab.url}/strategies/{name}")
        article = lab.page.get_by_role("article", name=name)
        expect(article).to_contain_text(about["help"])
        for head in ("Formula", "Source"):
            expect(article.get_by_role("heading", name=head)).to_be_visible()
        rows = article.get_by_role("row")
        expect(rows).to_have_count(len(about["schema"]["properties"]) + 1)
        expect(rows.last).to_contain_text("rescale")
        for field, schema in about["schema"]["properties"].items():
            row = article.get_by_role("row", name=re.compile(rf"^{field} "))
            expect(row).to_contain_text(re.sub(r"\s+", " ", schema["description"]))
        if about["paper"]:
            link = article.get_by_role("link", name=f"arXiv {about['paper']}").first
            expect(link).to_have_attribute("href", f"https://arxiv.org/abs/{about['paper']}")
            expect(link).to_have_attribute("rel", "noreferrer")
    lab.page.goto(f"{lab.url}/strategies/nonsense")
    expect(lab.page.get_by_text("no strategy of this name")).to_be_visible()


def test_an_address_without_a_page_says_so(lab: Lab) -> None:
    lab.page.goto(f"{lab.url}/nonsense")
    expect(lab.page.get_by_role("main")).to_contain_text("There is no page /nonsense here")
    expect(lab.page).to_have_title("No such page – superpose")
    lab.page.get_by_role("link", name="Open the Lab").click()
    expect(lab.page.get_by_role("button", name="Generate")).to_be_visible()


def test_try_it_opens_the_lab_with_its_defaults(lab: Lab) -> None:
    lab.page.get_by_role("combobox", name="Strategy").select_option("mixture_of_inputs")
    lab.page.get_by_label("beta", exact=True).fill("9")
    lab.page.goto(f"{lab.url}/strategies/mixture_of_inputs")
    lab.page.get_by_role("button", name="Try it").click()
    picker = lab.page.get_by_role("combobox", name="Strategy")
    expect(picker).to_have_value("mixture_of_inputs")
    expect(picker).to_be_focused()
    expect(lab.page.get_by_label("beta", exact=True)).to_have_value("1")
    expect(lab.page).to_have_url(f"{lab.url}/")
    expect(lab.page.get_by_label("T_e", exact=True)).to_have_accessible_description(re.compile("Does not apply"))
    lab.page.get_by_role("button", name="Undo").click()
    expect(lab.page.get_by_label("beta", exact=True)).to_have_value("9")


def test_signed_weights_hang_below_a_zero_line(lab: Lab) -> None:
    lab.start("selar", T_total=40, threshold=0.1, contrast=10)
    record = lab.done()
    expect(lab.phase1).to_contain_text("selar mixes throughout")
    expect(lab.phase1.get_by_role("option")).to_have_count(0)
    expect(lab.phase2.get_by_role("option")).to_have_count(len(record["steps"]))
    signed = [step for step in record["steps"] if step["fed"][0]["weight"] < 0 or step["fed"][-1]["weight"] < 0]
    assert signed, "the toy was never unsure enough"
    for step in signed:
        column = lab.step(step["step"])
        expect(column.locator(".under .cell.neg")).to_have_count(sum(fed["weight"] < 0 for fed in step["fed"]))
        drawn = column.evaluate(
            """column => {
              const [above, below] = [...column.querySelectorAll('.stk')].map(part => part.getBoundingClientRect());
              const cells = [...column.querySelectorAll('.cell')].map(cell => cell.getBoundingClientRect());
              const hatched = getComputedStyle(column.querySelector('.neg')).backgroundImage;
              return {line: below.top, end: above.bottom, hatched,
                      up: cells.filter(c => c.bottom <= below.top + 0.1).map(c => c.height),
                      down: cells.filter(c => c.top >= below.top).map(c => c.height)};
            }"""
        )
        for part, sign in (("up", 1), ("down", -1)):
            wanted = [72 * abs(fed["weight"]) for fed in step["fed"] if fed["weight"] * sign > 0]
            assert drawn[part] == pytest.approx(wanted, abs=0.5)
        assert drawn["line"] == pytest.approx(drawn["end"], abs=0.5)
        assert "repeating-linear-gradient" in drawn["hatched"]
    lab.step(signed[0]["step"]).click()
    expect(lab.inspector).to_contain_text(signed[0]["reason"])
    expect(lab.inspector).to_contain_text("drawn, the text")
    expect(lab.step(signed[0]["step"])).to_have_accessible_name(re.compile("minus .* percent.*gate"))


def test_a_whole_generation_has_the_views_of_columns(lab: Lab) -> None:
    lab.start("mixture_of_inputs", T_e=20, T_total=30)
    record = lab.done()
    assert {step["phase"] for step in record["steps"]} == {"answer"}
    columns = lab.phase2.get_by_role("option", name="mixture")
    expect(columns).to_have_count(len(record["steps"]))
    expect(lab.step(4).locator(".drawn")).to_be_visible()
    for view in ("Ladder", "Text", "Stack"):
        lab.phase2.get_by_role("button", name=view).click()
        expect(lab.phase2.locator(".thinking")).to_have_class(re.compile(rf"\b{view.lower()}\b"))
    readouts = lab.phase2.locator(".rep").evaluate_all("all => all.map(each => each.textContent).join('')")
    assert readouts.replace("␣", "").replace("↵", "\n") == record["answer"]["text"]
    lab.phase2.get_by_role("button", name="Rendered").click()
    expect(lab.phase2.locator(".prose")).to_contain_text(record["answer"]["text"].strip()[:6])
    expect(columns.first).to_be_hidden()
    lab.start("non_uniform", T_e=6, T_total=12)
    lab.done()
    expect(lab.phase1.get_by_role("option", name="mixture")).to_have_count(6)


def test_noise_is_said_under_the_columns(lab: Lab) -> None:
    lab.start("soft_tokens", T_e=8, T_total=12, gamma=0.2)
    lab.done()
    expect(lab.phase1.get_by_text("+ noise .2")).to_be_visible()
    lab.step(2).click()
    expect(lab.inspector).to_contain_text("γ = .2")


def test_warnings_come_calmly_and_go(lab: Lab) -> None:
    lab.page.get_by_role("combobox", name="Strategy").select_option("soft_thinking")
    said = lab.page.get_by_role("note", name="Before you run this")
    expect(said).to_contain_text("Cold Stop cannot fire")
    lab.page.get_by_text("More", exact=True).click()
    expect(lab.page.get_by_label("End probability")).to_have_value("")  # its own end rule
    lab.page.get_by_role("combobox", name="Strategy").select_option("non_uniform")
    expect(said).to_be_hidden()
    expect(lab.page.get_by_label("End probability")).to_have_value("0.05")


@pytest.mark.parametrize("path", ["/strategies", "/strategies/swi_reasoning"])
def test_axe_and_narrow_screens(lab: Lab, path: str) -> None:
    lab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    lab.page.goto(lab.url + path)
    expect(lab.page.get_by_role("main")).to_contain_text("swi_reasoning")
    found: dict[str, list[str]] = {}
    audit(lab, path, found)
    for width in (390, 320):
        lab.page.set_viewport_size({"width": width, "height": 700})
        assert not lab.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    audit(lab, f"{path}, narrow", found)
    assert {state: faults for state, faults in found.items() if faults} == {}


def test_axe_finds_nothing_in_a_whole_generation(lab: Lab) -> None:
    lab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    lab.start("selar", T_total=40, threshold=0.1, contrast=10)
    lab.done()
    lab.step(1).click()
    found: dict[str, list[str]] = {}
    audit(lab, "stack", found)
    lab.phase2.get_by_role("button", name="Text").click()
    audit(lab, "text", found)
    assert {state: faults for state, faults in found.items() if faults} == {}
