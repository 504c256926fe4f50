"""Everyday comfort: examples, presets, copies of a run in other words, links, drafts."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.web.test_quality import audit

if TYPE_CHECKING:
    from tests.web.conftest import Lab

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "web/src/examples"


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_every_strategys_page_shows_its_recorded_run(lab: Lab) -> None:
    """Make them again with: python benchmarks/examples.py"""
    asked: list[str] = []
    lab.page.on("request", lambda request: asked.append(request.url) if request.url.endswith(".json") else None)
    runs = {run[0]["spec"]["strategy"]["name"]: run for run in recorded("strategies")["runs"]}
    assert (EXAMPLES / "strategies.json").stat().st_size < 150_000
    listed = [each["name"] for each in lab.page.request.get(f"{lab.url}/api/strategies").json()]
    assert sorted(runs) == sorted(listed)
    lab.page.get_by_role("navigation", name="Screens").get_by_role("link", name="Strategies").click()
    assert asked == []
    lab.page.get_by_role("main").get_by_role("link", name=re.compile(f"^{listed[0]}")).click()
    for name in listed:
        lab.page.get_by_role("navigation", name="All strategies").get_by_role("link", name=name, exact=True).click()
        example = lab.page.get_by_role("region", name="An example run")
        steps = [event for event in runs[name] if "type" not in event]
        expect(example.get_by_role("option")).to_have_count(len(steps))
        expect(example).to_contain_text("Recorded with smollm2-135m: seed 1")
        mixed = [event for event in steps if "kind" not in event]
        expect(example.locator(".col.mixture")).to_have_count(len(mixed))
    assert len(asked) == 1, "one file, once, when the first page of a strategy is opened"
    example.get_by_role("option").nth(1).scroll_into_view_if_needed()
    lab.page.wait_for_timeout(200)  # a scroll hides the card
    example.get_by_role("option").first.focus()
    lab.page.keyboard.press("ArrowRight")
    expect(example.get_by_role("option").nth(1)).to_be_focused()
    expect(example.get_by_role("tooltip")).to_contain_text("step 1")


NASTY = [
    'It\'s "quoted" $HOME `id` \\n %s !! !x #1 ~ * ? | & ; < >',
    "two\nlines\n\n  and\ttabs \\",
    "--seed 5 🙂 été <|user|> \u2028 {\"a\": 'b'}",
    "@/etc/hostname",
    "-",
]
SPECS: list[dict[str, Any]] = [
    {
        "strategy": {"name": "dirichlet", "k": 3, "concentration": 2.5, "rescale": "mean_norm"},
        "system": 'Don\'t "$x"\n!',
    },
    {
        "strategy": {"name": "selar", "threshold": 0.1, "math_override": False},
        "end_probability": None,
        "temperature": 0.7,
    },
    {"strategy": "nucleus", "transition": "", "answer": {"temperature": 0, "top_p": 0.9, "top_k": 20, "min_p": 0.01}},
    {"strategy": "non_uniform", "transition": "--x 'y'\n$z", "T_e": 0, "end_probability": 0.2},
    {"strategy": "sample", "temperature": 0},
]


def created(lab: Lab, spec: dict[str, Any]) -> dict[str, Any]:
    """A finished run of a spec."""
    response = lab.page.request.post(f"{lab.url}/api/runs", data=json.dumps(spec), timeout=10_000)
    assert response.status == 201, response.text()
    lab.open(f"/run/{response.json()['id']}")
    return lab.done()


def copied(lab: Lab, what: str) -> str:
    """What the Share menu gives."""
    lab.page.get_by_role("button", name="Share", exact=True).click()
    menu = lab.page.get_by_role("dialog", name="Share")
    menu.get_by_role("button", name=what).click()
    text = menu.get_by_role("textbox", name=what.removeprefix("Copy as "), exact=True)
    expect(text).to_be_visible()
    found = text.input_value()
    lab.page.keyboard.press("Escape")
    return found


def executed(command: list[str], script: str, folder: Path, data: Path | None = None) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "SUPERPOSE_DATA": str(data or folder),
        "HISTFILE": "/dev/null",
    }
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(command, input=script, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def recipe(record: dict[str, Any]) -> dict[str, Any]:
    return {**record["spec"], "model": None}


def luck(record: dict[str, Any]) -> list[tuple[int, ...]]:
    return [(step["token"]["id"], *(fed["id"] for fed in step["fed"])) for step in record["steps"]]


def told(record: dict[str, Any]) -> list[dict[str, Any]]:
    """All of the steps but the time they took."""
    return [{**step, "t_ms": 0} for step in record["steps"]]


@pytest.fixture
def terminal(tmp_path: Path) -> Path:
    """A folder with `superpose` in it, for the path of a shell."""
    program = tmp_path / "superpose"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m superpose "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_copies_start_the_same_run_again(lab: Lab, terminal: Path, number: int) -> None:
    """Each is executed: by bash with its history marks on, and by a bare Python."""
    first = created(lab, {"T_e": 5, "T_total": 9, "seed": 11, **SPECS[number], "user": NASTY[number]})
    bash = "set -o history -o histexpand\n"

    made = json.loads(executed(["bash"], bash + copied(lab, "Copy as curl"), terminal))
    curl = lab.open(f"/run/{made['id']}").done()
    assert (recipe(curl), luck(curl)) == (recipe(first), luck(first))

    said = executed([sys.executable, "-I", "-"], copied(lab, "Copy as Python"), terminal)
    text, link = said.rsplit("\n", 2)[:2]
    python = lab.open(f"/run/{link.rsplit('/', 1)[1]}").done()
    assert (recipe(python), luck(python)) == (recipe(first), luck(first))
    assert text.rstrip("\n") == python["text"].rstrip("\n")

    command = copied(lab, "Copy as CLI")
    assert command.count(" -- ") >= 1
    record = json.loads(executed(["bash"], bash + command.replace(" -- ", " --json -- "), terminal))
    assert (recipe(record), luck(record)) == (recipe(first), luck(first))


def test_the_copies_of_a_branch_make_it_again(lab: Lab, terminal: Path, data: Path) -> None:
    parent = created(lab, {"user": "What?", "T_e": 6, "T_total": 9, "seed": 3})
    ids = [fed["id"] for fed in parent["steps"][2]["fed"][:2]]
    fork = {"run": parent["id"], "step": 2, "mixture": {"ids": ids, "weights": [0.25, 0.75], "combine": "sum"}}
    child = created(lab, {**parent["spec"], "fork": fork})
    made = json.loads(executed(["bash"], copied(lab, "Copy as curl"), terminal))
    again = lab.open(f"/run/{made['id']}").done()
    assert (recipe(again), luck(again)) == (recipe(child), luck(child))
    assert told(again) == told(child)
    command = copied(lab, "Copy as CLI").replace(" -- ", " --json -- ")
    record = json.loads(executed(["bash"], command, terminal, data))  # only the server's own data folder has the parent
    assert record["spec"] == child["spec"]
    assert told(record) == told(child) and record["replay"] == child["replay"]
    assert (record["text"], record["thinking"], record["answer"]) == (child["text"], child["thinking"], child["answer"])


def test_the_form_is_copied_while_there_is_no_run(lab: Lab, terminal: Path) -> None:
    lab.page.get_by_role("textbox", name="User prompt").fill("It's a $draft")
    lab.page.get_by_label("T_e", exact=True).fill("3")
    lab.page.get_by_label("T_total", exact=True).fill("6")
    record = json.loads(executed(["bash"], copied(lab, "Copy as CLI").replace(" -- ", " --json -- "), terminal))
    assert (record["spec"]["user"], record["spec"]["T_e"], record["spec"]["T_total"]) == ("It's a $draft", 3, 6)
    lab.page.get_by_label("T_e", exact=True).fill("7")
    lab.page.get_by_role("button", name="Share", exact=True).click()
    menu = lab.page.get_by_role("dialog", name="Share")
    expect(menu).to_contain_text("The form has faults")
    expect(menu.get_by_role("button", name="Copy as curl")).to_be_disabled()


def test_a_link_to_the_settings_fills_the_form_and_runs_nothing(lab: Lab) -> None:
    first = created(lab, {**SPECS[2], "user": NASTY[1], "system": NASTY[0], "T_e": 5, "T_total": 9, "seed": 11})
    link = copied(lab, "Link to the settings")
    assert re.fullmatch(re.escape(lab.url) + r"/#spec=1\.[\w-]+", link)
    lab.page.goto("about:blank")
    lab.page.goto(link)
    prompt = lab.page.get_by_role("textbox", name="User prompt", exact=True)
    expect(prompt).to_have_value(NASTY[1])
    expect(lab.page).to_have_url(f"{lab.url}/")
    expect(lab.status).to_contain_text("ready for a prompt")
    lab.generate.click()
    expect(lab.page).to_have_url(re.compile("/run/"))
    again = lab.done()
    assert (recipe(again), luck(again)) == (recipe(first), luck(first))
    lab.open("/")
    prompt.fill("my own draft")
    lab.page.evaluate("hash => { location.hash = hash }", link.split("#")[1])
    expect(prompt).to_have_value(NASTY[1])
    lab.page.get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value("my own draft")


def test_the_page_of_a_run_has_its_settings_and_keeps_a_draft(lab: Lab) -> None:
    prompt = lab.page.get_by_role("textbox", name="User prompt", exact=True)
    other = created(lab, {"user": "Another?", "T_e": 2, "T_total": 4})
    first = created(lab, {"user": "Whose prompt?", "strategy": "dirichlet", "T_e": 3, "T_total": 6, "seed": 5})
    expect(prompt).to_have_value("Whose prompt?")  # and not that of the link before it
    expect(lab.page.get_by_role("combobox", name="Strategy")).to_have_value("dirichlet")
    expect(lab.page.get_by_label("Seed", exact=True)).to_have_value("5")
    prompt.fill("my own draft")
    lab.open(f"/run/{other['id']}").done()
    expect(prompt).to_have_value("my own draft")
    expect(lab.page.locator("#settings")).to_contain_text("This run was asked: Another?")
    lab.page.get_by_role("button", name="Use this run’s settings").click()
    expect(prompt).to_have_value("Another?")
    expect(lab.page.get_by_label("T_e", exact=True)).to_have_value("2")
    lab.page.get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value("my own draft")
    lab.open(f"/run/{first['id']}").done()
    lab.page.get_by_role("button", name="Keep my draft").click()
    expect(lab.page.get_by_text("This run was asked")).to_have_count(0)
    expect(prompt).to_have_value("my own draft")


def test_a_form_that_was_run_is_offered_the_settings_of_another_run_of_its_prompt(lab: Lab) -> None:
    lab.open("/").start(T_e=4, T_total=8)
    own = lab.done()
    other = created(lab, {"user": own["spec"]["user"], "T_e": 3, "T_total": 6, "seed": 5})
    lab.open(f"/run/{own['id']}").done()
    expect(lab.page.get_by_text("This run was asked")).to_have_count(0)  # the form would start it again
    lab.open(f"/run/{other['id']}").done()
    lab.page.get_by_role("button", name="Use this run’s settings").click()
    expect(lab.page.get_by_label("T_e", exact=True)).to_have_value("3")


@pytest.mark.parametrize(
    ("fragment", "sentence"),
    [
        ("2.abc", "in a way that this version cannot read"),
        ("1.", "a part of the link may be missing"),
        ("1.%00*", "a part of the link may be missing"),
        ("1.q1YqLU4tUrJSUEpUqg", "a part of the link may be missing"),
        ("BOMB", "a part of the link may be missing"),
        ({"user": 5}, "user must be text"),
        ({"user": "x", "strategy": {"name": ["a"]}}, "strategy must be text"),
        ({"user": "x", "answer": []}, "answer must be an object"),
        ({"user": "x", "T_e": {"a": 1}}, "T_e must be one value"),
        ([1], "the settings must be an object"),
        ({"user": "x", "strategy": {"name": "of_mine"}}, "This server has no strategy of_mine"),
    ],
)
def test_broken_links_get_one_sentence(lab: Lab, fragment: Any, sentence: str) -> None:
    def packed(raw: bytes) -> str:
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(raw) + deflate.flush()
        return "1." + base64.urlsafe_b64encode(data).decode().rstrip("=")

    before = lab.page.get_by_role("textbox", name="User prompt", exact=True).input_value()
    if fragment == "BOMB":
        fragment = packed(b" " * 50_000_000)
    elif not isinstance(fragment, str):
        fragment = packed(json.dumps(fragment).encode())
    lab.page.goto(f"{lab.url}/#spec={fragment}")
    expect(lab.page.get_by_text(sentence)).to_be_visible()
    expect(lab.page).to_have_url(f"{lab.url}/")
    if "of_mine" not in sentence:
        expect(lab.page.get_by_role("textbox", name="User prompt", exact=True)).to_have_value(before)


def test_presets_fill_the_form_and_can_be_undone(lab: Lab) -> None:
    prompt = lab.page.get_by_role("textbox", name="User prompt", exact=True)
    prompt.fill("my draft")
    lab.page.get_by_role("button", name="Presets").click()
    menu = lab.page.get_by_role("dialog", name="Presets")
    menu.get_by_role("button", name="Maths assistant").click()
    expect(lab.page.get_by_role("textbox", name="System prompt", exact=True)).to_have_value(
        re.compile("careful mathematician")
    )
    expect(lab.page.get_by_label("T_e", exact=True)).to_have_value("100")
    expect(prompt).to_be_focused()
    expect(lab.page.get_by_text("Filled from Maths assistant")).to_be_visible()
    lab.page.get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value("my draft")
    expect(lab.page.get_by_label("T_e", exact=True)).to_have_value("50")


def test_own_presets_are_saved_overwritten_and_removed(lab: Lab) -> None:
    prompt = lab.page.get_by_role("textbox", name="User prompt", exact=True)
    menu = lab.page.get_by_role("dialog", name="Presets")
    name = menu.get_by_label("Name of the form as it is now")

    def keep(text: str, button: str) -> None:
        prompt.fill(text)
        lab.page.get_by_role("button", name="Presets").click()
        name.fill("mine")
        menu.get_by_role("button", name=button).click()
        expect(name).to_have_value("")
        lab.page.keyboard.press("Escape")

    lab.page.get_by_role("combobox", name="Strategy").select_option("dirichlet")
    lab.page.get_by_label("concentration", exact=True).fill("2.5")
    keep("first", "Save")
    keep("second", "Overwrite")
    lab.page.get_by_role("combobox", name="Strategy").select_option("sample")
    prompt.fill("")
    lab.page.reload()
    lab.page.get_by_role("button", name="Presets").click()
    menu.get_by_role("button", name="mine dirichlet").click()
    expect(prompt).to_have_value("second")
    expect(lab.page.get_by_label("concentration", exact=True)).to_have_value("2.5")
    lab.page.get_by_role("button", name="Presets").click()
    menu.get_by_role("button", name="Remove mine").click()
    expect(menu.get_by_role("button", name="mine dirichlet")).to_have_count(0)
    menu.get_by_role("button", name="Undo").click()
    expect(menu.get_by_role("button", name="mine dirichlet")).to_be_visible()


@pytest.mark.parametrize(
    "stored", ["{", "7", '[1, null, {"name": 3}, {"name": "x"}, {"name": "ok", "draft": {"user": "u"}}]']
)
def test_foreign_storage_breaks_nothing(lab: Lab, stored: str) -> None:
    for key in ("presets", "draft", "view", "theme", "single-keys"):
        lab.page.evaluate("([key, text]) => localStorage.setItem(`superpose.${key}`, text)", [key, stored])
    lab.open("/")
    lab.page.get_by_role("button", name="Presets").click()
    own = lab.page.get_by_role("dialog", name="Presets").get_by_role("button", name=re.compile("^ok"))
    expect(own).to_have_count(1 if "ok" in stored else 0)
    lab.page.evaluate("localStorage.clear()")


def test_a_prompt_in_full_size_is_the_same_prompt(lab: Lab) -> None:
    lab.page.get_by_role("textbox", name="User prompt", exact=True).fill("short")
    lab.page.get_by_role("button", name="User prompt in full size").click()
    large = lab.page.get_by_role("textbox", name="User prompt, full size")
    expect(large).to_have_value("short")
    large.fill("much longer")
    lab.page.keyboard.press("Escape")
    expect(lab.page.get_by_role("textbox", name="User prompt", exact=True)).to_have_value("much longer")
    lab.page.get_by_role("button", name="User prompt in full size").click()
    lab.page.keyboard.press("Control+Enter")
    expect(lab.page).to_have_url(re.compile("/run/"))
    assert lab.done()["spec"]["user"] == "much longer"


def without_a_model(lab: Lab, name: str = "toy") -> dict[str, Any]:
    """Lets the page believe that its model is still loading; the answer, changed, is what it reads next."""
    document: dict[str, Any] = lab.page.request.get(f"{lab.url}/api/models").json()
    model = next(each for each in document["models"] if each["name"] == name)
    model.update(status="loading", stage="weights", done=1, total=4, info=None)
    lab.page.route("**/api/models", lambda route: route.fulfill(json=document))
    lab.page.route("**/api/models/events", lambda route: route.abort())
    lab.page.evaluate("localStorage.removeItem('superpose.example')")
    return model


def test_an_example_replays_while_no_model_is_ready(lab: Lab) -> None:
    before = lab.page.request.get(f"{lab.url}/api/runs").json()["runs"]
    model = without_a_model(lab)
    lab.open("/")
    expect(lab.page.get_by_text("Example, recorded.")).to_be_visible()
    expect(lab.status).to_contain_text("example: ")
    (run,) = recorded("lab")["runs"]
    steps = sum("type" not in event for event in run)
    assert 0 <= len(lab.numbers()) < steps, "it comes at its own speed"
    expect(lab.status).to_contain_text(f"example: done: {steps} steps", timeout=30_000)
    assert lab.numbers() == list(range(steps))
    lab.step(3).click()
    expect(lab.inspector).to_contain_text("entropy H")
    expect(lab.inspector.get_by_role("button", name="Edit weights")).to_have_count(0)
    lab.view("Ladder")
    lab.page.get_by_role("button", name="Show as table").click()
    expect(lab.page.get_by_role("table").get_by_role("row")).not_to_have_count(0)
    lab.page.get_by_role("button", name="Show as table").click()
    for name in ("Pause", "Stop"):
        expect(lab.page.get_by_role("button", name=name)).to_be_disabled()
    expect(lab.page).to_have_url(f"{lab.url}/")
    expect(lab.page).to_have_title(re.compile("^Example"))
    lab.page.get_by_role("button", name="Share", exact=True).click()
    share = lab.page.get_by_role("dialog", name="Share")
    expect(share.get_by_role("button", name="Link to this run")).to_be_disabled()
    lab.page.keyboard.press("Escape")
    assert lab.page.request.get(f"{lab.url}/api/runs").json()["runs"] == before
    model.update(status="ready")
    lab.page.unroute("**/api/models")
    lab.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(lab.page.get_by_role("button", name="Model: toy, ready")).to_be_visible()
    lab.start(T_e=4, T_total=8)
    expect(lab.page.get_by_text("Example, recorded.")).to_have_count(0)
    record = lab.done()
    assert lab.numbers() == list(range(len(record["steps"])))
    lab.errors.clear()  # the stream of models was cut


def test_an_example_comes_at_once_where_motion_is_unwelcome_and_by_itself_only_once(lab: Lab) -> None:
    lab.page.emulate_media(reduced_motion="reduce")
    without_a_model(lab)
    lab.open("/")
    expect(lab.status).to_contain_text("example: done", timeout=2_000)
    lab.page.get_by_role("button", name="Close", exact=True).click()
    expect(lab.page.get_by_role("button", name="Watch a recorded run")).to_be_visible()
    lab.open("/")
    expect(lab.status).to_contain_text("ready for a prompt")
    lab.page.get_by_role("button", name="Watch a recorded run").click()
    expect(lab.status).to_contain_text("example: done")
    lab.errors.clear()


def test_the_keys_are_listed_from_their_table_and_letters_can_be_off(lab: Lab) -> None:
    lab.start(T_e=4, T_total=8)
    lab.done()
    lab.page.locator("body").press("?")
    keys = lab.page.get_by_role("dialog", name="Keys")
    listed = keys.locator("dt").all_inner_texts()
    assert len(set(listed)) == len(listed) > 15
    table = (ROOT / "web/src/core/keymap.ts").read_text(encoding="utf-8")
    assert sorted(listed) == sorted(re.findall(r"shown: '([^']+)'", table))
    keys.get_by_role("checkbox").uncheck()
    lab.page.keyboard.press("Escape")
    lab.page.locator("body").press("2")
    expect(lab.phase1.get_by_role("button", name="Stack")).to_have_attribute("aria-pressed", "true")
    lab.page.locator("body").press("?")
    expect(keys).to_be_hidden()
    lab.page.get_by_role("button", name="Keys").click()
    keys.get_by_role("checkbox").check()
    lab.page.keyboard.press("Escape")
    lab.page.locator("body").press("2")
    expect(lab.phase1.get_by_role("button", name="Ladder")).to_have_attribute("aria-pressed", "true")


def test_the_first_load_is_small_and_the_rest_comes_when_it_is_wanted(lab: Lab) -> None:
    """Under 120 kB gzipped; Markdown, maths, recorded runs and the other screens are not in it."""
    loaded: set[str] = set()
    lab.page.on("request", lambda asked: loaded.add(asked.url.rsplit("/", 1)[1]) if "/assets/" in asked.url else None)
    lab.open("/")
    lab.page.wait_for_load_state("networkidle")
    assets = ROOT / "src/superpose/static/assets"
    sizes = {name: len(gzip.compress((assets / name).read_bytes(), 9)) for name in loaded}
    assert sizes and sum(sizes.values()) < 120_000, sizes
    assert not [name for name in sizes if re.match("markdown|Compare|Runs|Models|Strategies|.*json", name)]
    for screen in ("Compare", "Runs", "Models", "Strategies"):
        lab.page.get_by_role("navigation", name="Screens").get_by_role("link", name=screen).click()
        expect(lab.page.get_by_role("main")).to_have_attribute("id", screen.lower())
        assert any(name.startswith(screen) for name in loaded)


def test_axe_finds_nothing_in_menus_and_the_example(lab: Lab) -> None:
    found: dict[str, list[str]] = {}
    lab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    lab.page.get_by_role("button", name="Presets").click()
    audit(lab, "presets", found)
    lab.page.get_by_role("dialog", name="Presets").get_by_role("button", name="Code").click()
    lab.page.get_by_role("button", name="Share", exact=True).click()
    lab.page.get_by_role("button", name="Copy as curl").click()
    audit(lab, "share", found)
    lab.page.keyboard.press("Escape")
    lab.page.get_by_role("button", name="User prompt in full size").click()
    audit(lab, "full size", found)
    lab.page.keyboard.press("Escape")
    lab.page.get_by_role("button", name="Watch a recorded run").click()
    expect(lab.status).to_contain_text("example: done")
    audit(lab, "example", found)
    assert {state: faults for state, faults in found.items() if faults} == {}
