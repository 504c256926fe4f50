"""The Runs screen: find, sort, rename, tag, delete and bring back, export, import, compare."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Download, Locator, Page, Route, expect

from tests.web.test_quality import audit

if TYPE_CHECKING:
    from tests.web.conftest import Lab

LISTS = re.compile(r"/api/runs\?")
SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Shelf:
    """The Runs screen, with runs that all hold one word of their own in their prompts."""

    def __init__(self, lab: Lab, word: str) -> None:
        self.lab, self.page, self.word = lab, lab.page, word
        self.table = self.page.get_by_role("table", name="Runs")
        self.acts = self.page.get_by_role("group", name="Selected runs")
        self.toast = self.page.get_by_role("main").get_by_role("status")

    def ask(self, method: str, path: str, data: Any = None) -> Any:
        return self.page.request.fetch(self.lab.url + path, method=method, data=data)

    def make(self, topic: str, **fields: Any) -> str:
        """The id of a finished run."""
        name, tags = fields.pop("name", None), fields.pop("tags", [])
        spec = {"user": f"{self.word} {topic}", "T_e": 4, "T_total": 8, "seed": 0, "strategy": "non_uniform", **fields}
        run: str = self.ask("POST", "/api/runs", spec).json()["id"]
        for _ in range(200):
            if self.record(run)["status"] == "finished":
                break
            time.sleep(0.02)
        self.ask("PATCH", f"/api/runs/{run}", {"name": name, "tags": tags})
        return run

    def record(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/api/runs/{run}").json()
        return found

    def listed(self, sort: str = "seed") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/api/runs?search={self.word}&sort={sort}&order=asc").json()[
            "runs"
        ]
        return found

    def refused(self) -> None:
        """Forgets that the console noted refusals; anything else there still fails the test."""
        assert all("Failed to load resource" in error for error in self.lab.errors), self.lab.errors
        assert self.lab.errors
        self.lab.errors.clear()

    def open(self, query: str = "", rows: int | None = None) -> Shelf:
        self.page.goto(f"{self.lab.url}/runs?q={self.word}{query}")
        if rows is not None:
            expect(self.rows()).to_have_count(rows)
        return self

    def rows(self) -> Locator:
        return self.table.get_by_role("row").filter(has=self.page.get_by_role("link"))

    def row(self, text: str) -> Locator:
        return self.rows().filter(has_text=text)

    def titles(self) -> Locator:
        return self.table.locator("a.open")

    def choose(self, *texts: str) -> None:
        for text in texts:
            self.row(text).get_by_role("checkbox").check()

    def act(self, name: str) -> None:
        self.acts.get_by_role("button", name=name).click()

    def save(self, kind: str) -> Download:
        self.act("Export")
        with self.page.expect_download() as saved:
            self.page.get_by_role("dialog", name="Export").get_by_role("button", name=kind).click()
        return saved.value


@pytest.fixture
def shelf(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Shelf]:
    """Three runs; the word that finds them is the test's own."""
    word = "w" + re.sub(r"\W|_", "", request.node.originalname)[-24:]
    found = Shelf(lab, word)
    found.make("apples", strategy="nucleus", seed=3, name=f"{word} first", tags=["fruit"])
    found.make("pears", seed=20, T_total=12)
    found.make("cherries", strategy="sample", seed=100, T_total=10)
    yield found


def test_rows_say_what_the_records_say(shelf: Shelf) -> None:
    shelf.open(rows=3)
    listed = reversed(shelf.listed("created"))
    for row, about in zip(shelf.rows().all(), listed, strict=True):
        record = shelf.record(about["id"])
        speed = record["timing"]["tokens_per_second"]
        cells = [cell.inner_text().strip() for cell in row.get_by_role("cell").all()]
        assert (record["name"] or record["spec"]["user"]) in cells[1]
        assert cells[2:4] == [record["spec"]["strategy"]["name"], "toy"]
        assert cells[4:6] == [str(record["spec"]["seed"]), str(len(record["steps"]))]
        assert float(cells[6]) == pytest.approx(speed, rel=0.01)
        whole = record["text"] if about["strategy"] == "sample" else record["answer"]["text"]  # one generation
        assert cells[7] == whole.strip().split("\n")[0].strip()[:200]
        assert cells[8] == "just now"
    expect(shelf.page.get_by_role("main")).to_contain_text("3 runs found")


def test_a_huge_speed_stays_in_its_column(shelf: Shelf) -> None:
    record = shelf.record(shelf.listed()[0]["id"])
    record["timing"]["tokens_per_second"] = 1.23456789e8
    assert shelf.ask("POST", "/api/import", {**record, "name": f"{shelf.word} fast"}).status == 201
    shelf.open(rows=4)
    speed = shelf.row("fast").locator(".rate")
    expect(speed).to_have_text("123 M")
    expect(speed).to_have_attribute("title", "123456789")
    assert speed.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_search_filters_and_sort_are_in_the_address(shelf: Shelf) -> None:
    page, word = shelf.page, shelf.word
    page.goto(f"{shelf.lab.url}/runs")
    page.get_by_role("main").get_by_role("searchbox", name="Search runs").fill(word)
    expect(page).to_have_url(f"{shelf.lab.url}/runs?q={word}")
    expect(shelf.titles()).to_have_text([f"{word} cherries", f"{word} pears", f"{word} first"])
    seed = shelf.table.get_by_role("columnheader", name="Seed")
    seed.get_by_role("button").click()
    expect(page).to_have_url(f"{shelf.lab.url}/runs?q={word}&sort=seed")
    expect(seed).to_have_attribute("aria-sort", "ascending")
    expect(shelf.titles()).to_have_text([f"{word} first", f"{word} pears", f"{word} cherries"])
    seed.get_by_role("button").click()
    expect(seed).to_have_attribute("aria-sort", "descending")
    expect(shelf.titles()).to_have_text([f"{word} cherries", f"{word} pears", f"{word} first"])
    page.get_by_role("combobox", name="Filter by strategy").select_option("nucleus")
    expect(shelf.titles()).to_have_text([f"{word} first"])
    expect(page).to_have_url(re.compile("strategy=nucleus&sort=seed&order=desc"))
    page.reload()
    expect(shelf.titles()).to_have_text([f"{word} first"])
    expect(page.get_by_role("combobox", name="Filter by strategy")).to_have_value("nucleus")
    page.go_back()
    expect(shelf.rows()).to_have_count(3)
    expect(page.get_by_role("combobox", name="Filter by strategy")).to_have_value("")
    page.get_by_role("combobox", name="Filter by status").select_option("finished")
    page.get_by_role("combobox", name="Filter by origin").select_option("true")
    expect(page.get_by_text("No run is like that")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("main").get_by_role("searchbox")).to_have_value("")
    expect(shelf.rows().first).to_be_visible()


def test_a_row_opens_its_run_and_back_comes_back(shelf: Shelf) -> None:
    shelf.open("&sort=name", rows=3)
    run = shelf.listed()[1]["id"]
    shelf.row("pears").get_by_role("cell").nth(7).click(force=True)  # all of a row leads there
    expect(shelf.page).to_have_url(re.compile(f"/run/{run}"))
    expect(shelf.lab.status).to_contain_text("done")
    shelf.page.go_back()
    expect(shelf.page).to_have_url(f"{shelf.lab.url}/runs?q={shelf.word}&sort=name")
    expect(shelf.rows()).to_have_count(3)
    shelf.page.goto(shelf.lab.url)
    shelf.page.get_by_role("button", name="Recent runs").click()
    shelf.page.get_by_role("link", name="All runs").click()
    expect(shelf.page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_rename_in_place(shelf: Shelf) -> None:
    shelf.open(rows=3)
    row = shelf.row("pears")
    run = shelf.listed()[1]["id"]
    row.get_by_role("button", name="Rename").click()
    field = shelf.table.get_by_role("textbox", name="Name")
    expect(field).to_be_focused()
    field.fill("not this")
    field.press("Escape")
    expect(row.get_by_role("button", name="Rename")).to_be_focused()
    assert shelf.record(run)["name"] is None
    row.get_by_role("button", name="Rename").press("Enter")
    field.fill("n" * 201)
    field.press("Enter")
    expect(shelf.table.get_by_role("alert")).to_contain_text("200")
    shelf.refused()
    expect(field).to_have_attribute("aria-invalid", "true")
    assert shelf.record(run)["name"] is None
    field.fill("the ripe one")
    field.press("Enter")
    expect(shelf.titles().filter(has_text="the ripe one")).to_be_visible()
    assert shelf.record(run)["name"] == "the ripe one"


def test_tags_of_several_runs(shelf: Shelf) -> None:
    shelf.open(rows=3)
    shelf.choose("first", "pears")
    shelf.act("Tag")
    tags = shelf.page.get_by_role("dialog", name="Tags")
    expect(tags.get_by_role("checkbox", name="fruit")).to_have_js_property("indeterminate", True)
    expect(tags.get_by_role("textbox", name="New tag")).to_be_focused()
    tags.get_by_role("textbox", name="New tag").fill("ripe")
    tags.get_by_role("textbox", name="New tag").press("Enter")
    expect(tags.get_by_role("checkbox", name="ripe")).to_be_checked()
    tags.get_by_role("checkbox", name="fruit").check()
    expect(shelf.table.get_by_role("link", name="ripe")).to_have_count(2)
    expect(shelf.row("pears").get_by_role("link", name="fruit")).to_be_visible()
    tags.get_by_role("checkbox", name="ripe").uncheck()
    expect(shelf.table.get_by_role("link", name="ripe")).to_have_count(0)
    tags.get_by_role("textbox", name="New tag").fill("t" * 51)
    tags.get_by_role("button", name="Add").click()
    expect(tags.get_by_role("alert")).to_contain_text("50")
    shelf.refused()
    listed = shelf.listed()
    assert [run["tags"] for run in listed] == [["fruit"], ["fruit"], []]
    shelf.page.keyboard.press("Escape")
    shelf.table.get_by_role("link", name="fruit").first.click()
    expect(shelf.page).to_have_url(re.compile("tag=fruit"))
    expect(shelf.rows()).to_have_count(2)


def test_deleted_runs_come_back_as_they_were(shelf: Shelf) -> None:
    shelf.open(rows=3)
    runs = [run["id"] for run in shelf.listed()]
    before = [shelf.record(run) for run in runs]
    titles = shelf.titles().all_inner_texts()
    shelf.choose("first", "cherries")
    shelf.act("Delete")
    expect(shelf.rows()).to_have_count(1)
    expect(shelf.toast).to_contain_text("2 runs deleted")
    expect(shelf.page.get_by_role("main")).to_contain_text("1 run found")
    assert len(shelf.listed()) == 1
    expect(shelf.acts).to_be_hidden()
    shelf.page.keyboard.press("Tab")  # the next thing for the keyboard
    expect(shelf.toast.get_by_role("button", name="Undo")).to_be_focused()
    shelf.page.keyboard.press("Enter")
    expect(shelf.titles()).to_have_text(titles)
    expect(shelf.toast.get_by_role("button")).to_have_count(0)
    assert [shelf.record(run) for run in runs] == before


def test_the_undo_waits_ten_seconds_and_while_it_is_pointed_at(shelf: Shelf) -> None:
    clock = shelf.page.clock
    clock.install()
    shelf.open(rows=3)
    shelf.choose("pears")
    shelf.act("Delete")
    undo = shelf.toast.get_by_role("button", name="Undo")
    expect(undo).to_be_visible()
    clock.run_for(6_000)
    undo.hover()
    clock.run_for(30_000)
    expect(undo).to_be_visible()
    shelf.page.get_by_role("heading", name="Runs", exact=True).hover()
    clock.run_for(2_000)
    shelf.choose("first")  # a second deletion gives both the whole time
    shelf.act("Delete")
    expect(shelf.toast).to_contain_text("2 runs deleted")
    clock.run_for(8_000)
    expect(undo).to_be_visible()
    clock.run_for(2_500)
    expect(undo).to_be_hidden()
    shelf.page.reload()
    expect(shelf.titles()).to_have_text([f"{shelf.word} cherries"])


def test_a_live_run_is_kept_fresh_and_not_deleted(shelf: Shelf) -> None:
    spec = {"user": f"{shelf.word} endless", "T_e": 3900, "T_total": 3900, "end_probability": None}
    run = shelf.ask("POST", "/api/runs", spec).json()["id"]
    shelf.open(rows=4)
    row = shelf.row("endless")
    steps = row.locator(".made")
    expect(row.get_by_role("img", name="running")).to_be_visible()
    before = steps.inner_text()
    expect(steps).not_to_have_text(before)
    shelf.choose("endless")
    shelf.act("Delete")
    expect(shelf.page.get_by_role("main").get_by_role("alert")).to_contain_text("cancel it first")
    shelf.refused()
    expect(row).to_be_visible()
    shelf.ask("POST", f"/api/runs/{run}/pause")
    paused = row.get_by_role("img", name="paused")
    expect(paused).to_be_visible()
    assert paused.evaluate("e => e.getClientRects()[0].height") < 24  # in one line
    shelf.ask("POST", f"/api/runs/{run}/cancel")
    expect(row.get_by_role("img", name="cancelled")).to_be_visible()
    assert steps.inner_text().replace("\u202f", "") == str(len(shelf.record(run)["steps"]))


def test_exports_hold_what_the_server_holds(shelf: Shelf) -> None:
    shelf.open("&sort=seed", rows=3)
    runs = [run["id"] for run in shelf.listed()]
    records = [shelf.record(run) for run in runs]
    shelf.choose("first")
    assert json.loads(Path(shelf.save("JSON)").path()).read_text()) == records[0]
    events = [json.loads(line) for line in Path(shelf.save("JSONL").path()).read_text().splitlines()]
    assert [event["step"] for event in events if event["type"] == "step"] == list(range(len(records[0]["steps"])))
    saved = shelf.save("CSV")
    assert runs[0] in saved.suggested_filename and saved.suggested_filename.endswith(".csv")
    with Path(saved.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["entropy"]) for row in rows] == [step["entropy"] for step in records[0]["steps"]]
    shelf.choose("pears", "cherries")
    assert json.loads(Path(shelf.save("JSON)").path()).read_text()) == records
    with Path(shelf.save("CSV").path()).open(newline="") as file:
        counts = [row["run"] for row in csv.DictReader(file)]
    assert [counts.count(run) for run in runs] == [len(record["steps"]) for record in records]


def test_an_exported_file_comes_in_again_and_a_broken_one_does_not(shelf: Shelf, tmp_path: Path) -> None:
    shelf.open(rows=3)
    shelf.choose("pears")
    good = tmp_path / "good.json"
    shelf.save("JSON)").save_as(good)
    bad = tmp_path / "bad.json"
    bad.write_text(good.read_text()[:500])
    files = shelf.page.get_by_label("Files to import")
    files.set_input_files([bad])
    said = shelf.page.get_by_role("main").get_by_role("alert")
    expect(said).to_contain_text("bad.json: ")
    shelf.refused()
    assert len(shelf.listed()) == 3
    expect(shelf.rows()).to_have_count(3)
    files.set_input_files([good])
    expect(shelf.toast).to_contain_text("1 run imported")
    expect(said).to_have_count(0)
    expect(shelf.rows()).to_have_count(4)
    mark = shelf.rows().filter(has=shelf.page.get_by_text("imported", exact=True))
    expect(mark).to_have_count(1)
    drop(shelf.page, good)
    expect(shelf.rows()).to_have_count(5)
    mark.first.locator("a.open").click()
    expect(shelf.lab.status).to_contain_text("done")
    old = json.loads(good.read_text())
    new = shelf.record(shelf.lab.run)
    assert new["steps"] == old["steps"] and new["id"] != old["id"]
    assert shelf.lab.numbers() == list(range(len(old["steps"])))


def drop(page: Page, path: Path) -> None:
    """Lets a file fall on the page."""
    page.evaluate(
        """([name, text]) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([text], name));
          for (const type of ['dragover', 'drop'])
            document.body.dispatchEvent(new DragEvent(type, {dataTransfer, bubbles: true, cancelable: true}));
        }""",
        [path.name, path.read_text()],
    )


def test_two_to_four_rows_lead_to_compare(shelf: Shelf) -> None:
    shelf.open("&sort=seed", rows=3)
    listed = shelf.listed()
    boxes = shelf.rows().get_by_role("checkbox")
    compare = shelf.acts.get_by_role("button", name="Compare")
    boxes.nth(0).click()
    expect(compare).to_be_disabled()
    boxes.nth(2).click(modifiers=["Shift"])
    expect(shelf.acts).to_contain_text("3 selected")
    shelf.act("Select none")
    expect(shelf.acts).to_be_hidden()
    shelf.table.get_by_role("checkbox", name="Select all shown").check()
    expect(shelf.acts).to_contain_text("3 selected")
    compare.click()
    expect(shelf.page).to_have_url(re.compile(f"/compare\\?runs={','.join(run['id'] for run in listed)}"))
    expect(shelf.page.get_by_role("main").get_by_role("status")).to_contain_text("all 3 done")


def test_a_refusal_is_said_and_the_list_stays(shelf: Shelf) -> None:
    shelf.open(rows=3)
    refuse = {"status": 503, "json": {"title": "busy", "detail": "the store is busy; try again"}}
    shelf.page.route(LISTS, lambda route: route.fulfill(**refuse))
    with shelf.page.expect_response("**/api/runs/facets"):  # which comes, after the list did not
        shelf.table.get_by_role("button", name="Steps").click()
    shelf.page.wait_for_timeout(200)
    said = shelf.page.get_by_role("main").get_by_role("alert")
    expect(said).to_have_text("the store is busy; try again")
    expect(shelf.rows()).to_have_count(3)
    shelf.page.unroute(LISTS)
    shelf.table.get_by_role("button", name="Seed").click()
    expect(said).to_have_count(0)
    shelf.refused()


def test_thousands_of_rows_cost_no_more_than_some(shelf: Shelf) -> None:
    """Two thousand copies of a real row, as the server would page them."""
    about = shelf.listed()[0]

    def page(route: Route) -> None:
        query = re.search(r"after=(\d+)", route.request.url)
        at = int(query[1]) if query else 0
        runs = [{**about, "id": f"copy{i}", "name": f"copy {i}"} for i in range(at, min(at + 50, 2000))]
        route.fulfill(json={"runs": runs, "next": str(at + 50) if at < 1950 else None, "total": 2000})

    shelf.page.route(LISTS, page)
    shelf.open()
    most = shelf.page.evaluate(
        """async () => {
          let most = 0;
          for (const begun = performance.now(); performance.now() < begun + 40_000;) {
            scrollTo(0, document.documentElement.scrollHeight);
            await new Promise(requestAnimationFrame);
            await new Promise(done => setTimeout(done, 10));
            const titles = [...document.querySelectorAll('a.open')].map(each => each.textContent);
            most = Math.max(most, titles.length);
            if (titles.includes('copy 1999')) return most;
          }
          return Infinity;
        }"""
    )
    assert most <= 400
    expect(shelf.row("copy 1999")).to_have_attribute("aria-rowindex", "2001")
    shelf.page.evaluate("scrollTo(0, 0)")
    expect(shelf.titles().first).to_have_text("copy 0")
    expect(shelf.page.get_by_role("main")).to_contain_text("2\u202f000 runs found")


def test_axe_and_narrow_screens(shelf: Shelf) -> None:
    found: dict[str, list[str]] = {}
    shelf.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    shelf.open(rows=3)
    audit(shelf.lab, "list", found)
    shelf.choose("first", "pears")
    shelf.act("Tag")
    shelf.row("cherries").get_by_role("button", name="Rename").dispatch_event("click")
    audit(shelf.lab, "chosen, tags and rename", found)
    shelf.page.keyboard.press("Escape")
    shelf.act("Delete")
    expect(shelf.toast).to_contain_text("deleted")
    audit(shelf.lab, "deleted", found)
    shelf.toast.get_by_role("button", name="Undo").click()
    expect(shelf.rows()).to_have_count(3)
    for width in (390, 320):
        shelf.page.set_viewport_size({"width": width, "height": 760})
        shelf.choose("first")
        assert not shelf.page.evaluate(SIDEWAYS), f"{width} px"
        small = shelf.page.evaluate(
            """[...document.querySelectorAll('main#runs :is(button, select, input, a)')]
              .filter(e => e.checkVisibility() && e.tabIndex >= 0)
              .map(e => [e.getBoundingClientRect(), e])
              .filter(([r]) => r.width < 24 || r.height < 24).map(([, e]) => e.outerHTML.slice(0, 120))"""
        )
        assert [each for each in small if 'type="checkbox"' not in each] == []
        audit(shelf.lab, f"{width} px", found)
    shelf.page.goto(f"{shelf.lab.url}/runs?q=nothinghasthisword")
    expect(shelf.page.get_by_text("No run is like that")).to_be_visible()
    audit(shelf.lab, "none", found)
    shelf.page.route(LISTS, lambda route: route.fulfill(json={"runs": [], "next": None, "total": 0}))
    shelf.page.goto(f"{shelf.lab.url}/runs")
    expect(shelf.page.get_by_text("No runs yet")).to_be_visible()
    expect(shelf.page.get_by_role("link", name="Open the Lab")).to_be_visible()
    audit(shelf.lab, "no runs", found)
    assert {state: faults for state, faults in found.items() if faults} == {}
