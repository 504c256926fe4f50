"""axe finds nothing on the screens beside the Lab while they are empty, running, refused: both themes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.web.test_compare import open_compare, status
from tests.web.test_quality import audit

if TYPE_CHECKING:
    from tests.web.conftest import Lab

LONG = {"user": "wordless", "T_e": 3500, "T_total": 3900, "end_probability": None}


def test_axe_finds_nothing_on_any_screen_in_any_state(lab: Lab) -> None:
    found: dict[str, list[str]] = {}
    lab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    lab.page.goto(f"{lab.url}/runs?q=no-run-holds-this")
    expect(lab.page.get_by_role("main")).to_contain_text("No run is like that")
    audit(lab, "runs, empty", found)
    live = lab.page.request.post(f"{lab.url}/api/runs", data=LONG).json()["id"]
    lab.page.goto(f"{lab.url}/runs?q=wordless")
    expect(lab.page.get_by_role("table", name="Runs")).to_contain_text("non_uniform")
    audit(lab, "runs, running", found)
    lab.page.goto(f"{lab.url}/models")
    expect(lab.page.get_by_role("main")).to_contain_text("running")
    audit(lab, "models, running", found)
    open_compare(lab, f"/compare?runs={live}")
    audit(lab, "compare, running", found)
    lab.page.request.post(f"{lab.url}/api/runs/{live}/pause")
    lab.page.goto(f"{lab.url}/run/{live}?step=3")
    expect(lab.status).to_contain_text("paused")
    audit(lab, "lab, paused", found)
    lab.page.request.post(f"{lab.url}/api/runs/{live}/cancel")
    open_compare(lab, f"/compare?runs={live},nobody")
    expect(lab.page.locator("#compare")).to_contain_text("is not on this server")
    expect(status(lab)).to_be_visible()
    audit(lab, "compare, with a run that is missing", found)
    for path in ("runs", "strategies"):
        lab.page.route("**/api/**", lambda route: route.fulfill(status=503, json={"detail": "busy; try again"}))
        lab.page.goto(f"{lab.url}/{path}")
        expect(lab.page.get_by_role("main")).to_contain_text("busy; try again")
        audit(lab, f"{path}, error", found)
        lab.page.unroute("**/api/**")
    lab.errors.clear()  # the browser reports each refusal
    assert {state: faults for state, faults in found.items() if faults} == {}
