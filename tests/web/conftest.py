"""The built page in a real browser, against the real server with the toy engine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import BrowserContext, Locator, Page, expect

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src/superpose/static/index.html"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the lab, empty at first."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[str]:
    """The address of a lab."""
    if not STATIC.is_file():
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("the page is not built: run `npm run build` in web/, or python3 dev.py test")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SUPERPOSE_DATA": str(data)}
    command = [sys.executable, "-m", "superpose", "serve", "--model", "toy", "--no-browser", "--port", str(port)]
    log = data / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=1)
                break
            except OSError:
                if process.poll() is not None:
                    pytest.fail(f"the server ended: {log.read_text()}")
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


class Lab:
    """One page of the lab, and what a person does there."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.phase1 = page.get_by_role("region", name="Phase 1")
        self.phase2 = page.get_by_role("region", name="Phase 2")
        self.inspector = page.get_by_role("region", name="Inspector")
        self.status = page.get_by_role("status")
        self.generate = page.get_by_role("button", name="Generate")
        self.stop = page.get_by_role("button", name="Stop")

    def open(self, path: str = "/") -> Lab:
        self.page.goto(self.url + path)
        expect(self.page.get_by_role("combobox", name="Strategy")).to_have_value(re.compile(r"\w"))
        return self

    def start(self, strategy: str = "non_uniform", user: str = "What is 25 + 17?", **fields: Any) -> None:
        """Fills the form and presses Generate; returns once the run has its address."""
        self.page.get_by_role("textbox", name="User prompt").fill(user)
        self.page.get_by_role("combobox", name="Strategy").select_option(strategy)
        for label, value in {"Seed": 7, **fields}.items():
            field = self.page.get_by_label(label, exact=True)
            if not field.is_visible():
                self.page.get_by_text("More", exact=True).click()
            field.fill(str(value))
        before = self.page.url
        self.generate.click()
        expect(self.page).not_to_have_url(before)

    def start_long(self) -> None:
        """A run of several seconds, all of it thinking: no end token ends it."""
        self.start(T_total=1000, T_e=900, **{"End probability": ""})

    def done(self, words: str = "done") -> dict[str, Any]:
        """The record of the run, once the page says that it is over."""
        expect(self.status).to_contain_text(words, timeout=20_000)
        return self.record()

    @property
    def run(self) -> str:
        return self.page.url.split("/run/")[1].split("?")[0]

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.request.get(f"{self.url}/api/runs/{self.run}").json()
        return found

    def step(self, number: int) -> Locator:
        return self.page.locator(f'[role=option][data-step="{number}"]')

    def numbers(self) -> list[int]:
        """The step numbers on the page, in its order."""
        found: list[int] = self.page.evaluate(
            "[...document.querySelectorAll('[role=option][data-step]')].map(e => Number(e.dataset.step))"
        )
        return found

    def view(self, name: str) -> None:
        self.phase1.get_by_role("button", name=name).click()

    def append(self, events: list[dict[str, Any]]) -> None:
        """Gives the page events as its stream would."""
        self.page.evaluate("events => window.__superpose.append(events)", events)

    @staticmethod
    def step_event(number: int, text: str, /, **changes: Any) -> dict[str, Any]:
        """A step event as the server makes them."""
        phase = changes.get("phase", "thinking")
        others = [" a", " b", " c", " d"]
        mixed = [{"id": number, "text": text, "weight": 0.6}]
        mixed += [{"id": 900 + i, "text": other, "weight": 0.1} for i, other in enumerate(others)]
        believed = [{"id": fed["id"], "text": fed["text"], "probability": fed["weight"] * 0.9} for fed in mixed]
        drawn = {"drawn": believed[0]} if phase == "thinking" else {}
        return {
            "type": "step", "run": "hook", "seq": number + 10, "step": number, "phase": phase,
            "kind": "mixture" if phase == "thinking" else "sampled",
            "token": {"id": number, "text": text, "probability": 0.54}, "text": text,
            "fed": mixed if phase == "thinking" else [{"id": number, "text": text, "weight": 1.0}],
            "combine": "sum", "believed": believed, "tail": 0.1, "entropy": 1.3, "entropy_raw": 1.5,
            "norm_ratio": 0.7, "reason": None, "t_ms": 5.0, **drawn, **changes,
        }  # fmt: skip

    @staticmethod
    def beginning(user: str = "hi") -> list[dict[str, Any]]:
        """The events before the first step of a run that only the page knows."""
        spec = {
            "model": "toy", "system": "", "user": user, "strategy": {"name": "non_uniform", "k": 5}, "T_e": 5000,
            "T_total": 9000, "temperature": 0.8, "end_probability": 0.05, "transition": None, "seed": 1, "fork": None,
            "answer": {"temperature": None, "top_p": 1.0, "top_k": 0, "min_p": 0.0},
        }  # fmt: skip
        engine = {"name": "toy", "model": "toy", "device": "cpu", "dtype": "float64", "vocab": 263, "fingerprint": "x"}
        events: list[dict[str, Any]] = [
            {"type": "run_queued", "spec": spec, "created_at": "2026-11-23T17:00:00+00:00"},
            {"type": "run_started", "prompt": {"text": user, "token_ids": [1]}, "engine": engine, "queue_s": 0.0},
            {"type": "prefilled", "prefill_s": 0.0},
        ]
        return [{**event, "run": "hook", "seq": seq} for seq, event in enumerate(events)]


@pytest.fixture
def context(context: BrowserContext) -> BrowserContext:
    context.set_default_timeout(10_000)
    return context


@pytest.fixture
def lab(page: Page, server: str) -> Iterator[Lab]:
    """The lab on its first page; what the console called an error fails the test."""
    found = Lab(page, server)
    yield found.open()
    assert found.errors == []


class Gate:
    """A TCP relay before the server whose connections can be cut: what a lost network looks like."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rsplit(":", 1)[1])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._shut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Breaks every connection and refuses new ones."""
        self._shut = True
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def mend(self) -> None:
        self._shut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._shut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    @staticmethod
    def _relay(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def gate(server: str) -> Iterator[Gate]:
    made = Gate(server)
    yield made
    made.close()
