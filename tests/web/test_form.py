"""The form: checks while typing, the server's refusals, models, drafts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Route, expect

if TYPE_CHECKING:
    from tests.web.conftest import Lab


def test_faults_are_said_while_typing(lab: Lab) -> None:
    T_e = lab.page.get_by_label("T_e", exact=True)
    T_e.fill("300")
    expect(lab.page.get_by_text("T_e must be at most T_total (250); got 300")).to_be_visible()
    expect(T_e).to_have_attribute("aria-invalid", "true")
    lab.generate.click()
    expect(T_e).to_be_focused()
    expect(lab.page).to_have_url(f"{lab.url}/")
    lab.page.get_by_label("T_total", exact=True).fill("300")
    expect(T_e).not_to_have_attribute("aria-invalid", "true")
    lab.page.get_by_label("k", exact=True).fill("0")
    expect(lab.page.get_by_text("k must be at least 1; got 0")).to_be_visible()
    lab.page.get_by_label("k", exact=True).fill("5")
    lab.page.get_by_role("textbox", name="User prompt").fill("")
    lab.page.keyboard.press("Control+Enter")
    expect(lab.page.get_by_text("Write a user prompt first")).to_be_visible()


def test_a_short_run_thinks_no_longer_than_it_lasts(lab: Lab) -> None:
    T_e = lab.page.get_by_label("T_e", exact=True)
    lab.page.get_by_label("T_total", exact=True).fill("8")
    expect(T_e).to_have_value("8")
    expect(lab.page.get_by_role("button", name="Back to the default of T_e")).to_have_count(0)
    T_e.fill("5")
    lab.page.get_by_role("button", name="Back to the default of T_e, 8").click()
    expect(T_e).to_have_value("8")
    lab.page.get_by_label("T_total", exact=True).fill("80")
    expect(T_e).to_have_value("50")
    lab.page.get_by_label("T_total", exact=True).fill("8")
    lab.generate.click()
    expect(lab.page).not_to_have_url(f"{lab.url}/")
    spec = lab.done()["spec"]
    assert (spec["T_e"], spec["T_total"]) == (8, 8)


def test_a_refusal_stands_at_its_field(lab: Lab) -> None:
    lab.page.get_by_label("T_total", exact=True).fill("90000")
    lab.generate.click()
    refusal = lab.page.get_by_text("over the model's context")
    expect(refusal).to_be_visible()
    expect(lab.page.get_by_role("textbox", name="User prompt")).to_have_attribute("aria-invalid", "true")
    lab.page.get_by_role("textbox", name="User prompt").fill("shorter")
    expect(refusal).not_to_be_visible()
    lab.errors.clear()  # the browser reports the 422


def test_every_strategy_has_its_own_parameters(lab: Lab) -> None:
    strategies: list[dict[str, Any]] = lab.page.request.get(f"{lab.url}/api/strategies").json()
    picker = lab.page.get_by_role("combobox", name="Strategy")
    for strategy in strategies:
        picker.select_option(strategy["name"])
        expect(picker).to_have_accessible_description(re.compile(re.escape(strategy["help"][:40])))
        for name, schema in strategy["schema"]["properties"].items():
            field = lab.page.get_by_label(name, exact=True)
            expect(field).to_have_count(1)
            if schema["type"] == "boolean":
                expect(field).to_be_checked(checked=schema["default"])
            else:
                expect(field).to_have_value(str(schema["default"]).removesuffix(".0"))
    for label in ("T_e", "T_total", "Temperature", "Seed"):
        expect(lab.page.get_by_label(label, exact=True)).to_have_count(1)


def test_tokens_are_counted_and_the_template_shown(lab: Lab) -> None:
    lab.page.get_by_role("textbox", name="User prompt").fill("été 🙂")
    expect(lab.page.locator("#user-prompt-count")).to_have_text("10 tokens")
    lab.page.get_by_role("button", name="Show template").click()
    dialog = lab.page.get_by_role("dialog", name="Prompt template")
    expect(dialog).to_contain_text("<|assistant|>")
    lab.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_drafts_and_theme_survive_a_reload(lab: Lab) -> None:
    lab.page.get_by_role("textbox", name="System prompt").fill("kept")
    lab.page.get_by_role("combobox", name="Strategy").select_option("dirichlet")
    lab.page.get_by_label("concentration", exact=True).fill("2.5")
    lab.page.get_by_label("T_e", exact=True).fill("17")
    lab.page.get_by_role("button", name="Theme").click()
    lab.page.get_by_role("button", name="Theme: light").click()
    lab.page.reload()
    expect(lab.page.get_by_role("textbox", name="System prompt")).to_have_value("kept")
    expect(lab.page.get_by_label("concentration", exact=True)).to_have_value("2.5")
    expect(lab.page.get_by_label("T_e", exact=True)).to_have_value("17")
    expect(lab.page.locator("html")).to_have_attribute("data-theme", "dark")


def test_generate_waits_for_a_model_that_loads(lab: Lab) -> None:
    ready: dict[str, Any] = lab.page.request.get(f"{lab.url}/api/models").json()
    loading = json.loads(json.dumps(ready))
    model = next(each for each in loading["models"] if each["name"] == "toy")
    model.update(status="loading", stage="weights", done=3, total=4, info=None)
    now = {"document": loading}

    def stream(route: Route) -> None:  # answers once; the browser asks again after `retry`
        body = f"retry: 100\ndata: {json.dumps(now['document'])}\n\n"
        route.fulfill(content_type="text/event-stream", body=body)

    lab.page.route("**/api/models/events", stream)
    lab.page.route("**/api/models", lambda route: route.fulfill(json=now["document"]))
    lab.page.reload()
    expect(lab.page.get_by_role("button", name="Model: toy")).to_contain_text("reading weights · 75 %")
    lab.page.get_by_role("button", name="Model: toy").click()
    expect(lab.page.get_by_role("progressbar", name="Loading toy")).to_be_visible()
    lab.page.keyboard.press("Escape")
    lab.generate.click()
    expect(lab.status).to_contain_text("waits for the model")
    now["document"] = ready
    lab.done()


def test_a_model_by_name(lab: Lab) -> None:
    """The server's part is played: a real attempt imports torch first."""
    document: dict[str, Any] = lab.page.request.get(f"{lab.url}/api/models").json()
    asked: list[Any] = []

    def load(route: Route) -> None:
        asked.append(route.request.post_data_json)
        failed = {"name": "other", "status": "failed", "stage": None, "done": 0, "total": 0, "info": None}
        document["models"].append({**failed, "error": "other has no chat template"})
        route.fulfill(status=202, json={"model": "other", **document})

    lab.page.route("**/api/models/load", load)
    lab.page.route("**/api/models", lambda route: route.fulfill(json=document))
    lab.page.get_by_role("button", name="Model: toy").click()
    models = lab.page.get_by_role("dialog", name="Models")
    models.get_by_label("Another model").fill("other")
    models.get_by_role("button", name="Load", exact=True).click()
    expect(models.get_by_text("other has no chat template")).to_be_visible()
    assert asked == [{"model": "other"}]
    models.get_by_role("button", name="toy").click()
    expect(lab.page.get_by_role("button", name="Model: toy")).to_be_visible()
