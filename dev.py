#!/usr/bin/env python3
"""Sets superpose up in .venv and runs it, with nothing but Python 3.11 or newer:

    python3 dev.py demo [options of `superpose serve`]    the lab in the browser
    python3 dev.py test [options of pytest]               every test: the page's, then Python's
    python3 dev.py check                                  ruff, mypy, svelte-check, the layer rule
    python3 dev.py setup                                  only prepares; afterwards all of it runs offline

SUPERPOSE_TORCH=cpu|cuda|skip chooses the build of torch, SUPERPOSE_BROWSER the browser of the tests.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path


def too_old(version: "tuple[int, int]") -> str:
    """The sentence for a Python that is too old, else nothing."""
    if version >= (3, 11):
        return ""
    found = f"{version[0]}.{version[1]}"
    return f"superpose needs Python 3.11 or newer, and this is {found}: try `python3.11 dev.py`"


# Up to here old Pythons must run this file; the rest they must only parse (3.6 does), so no newer syntax.
if too_old(sys.version_info[:2]):
    sys.exit(too_old(sys.version_info[:2]))

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "superpose-setup.json"
WHEELS = VENV / "llama-cpp"
TORCH = "torch==2.13.0"  # the pin is here and not in pyproject.toml, see there
LLAMACPP = "llama-cpp-python>=0.3.36,<0.4"  # as in pyproject.toml; comes as source in C++
OFFLINE = r"Failed to establish|NameResolution|Max retries|Network is unreachable|timed out|dns error"


def say(words: str) -> None:
    """Prints a line now, so that it stands before the output of the programs that follow."""
    print(f"superpose: {words}", flush=True)


def works(*command: object) -> bool:
    """Whether a program is there and succeeds; its output is dropped."""
    silent = subprocess.DEVNULL
    try:
        return subprocess.run([*map(str, command)], cwd=ROOT, stdout=silent, stderr=silent).returncode == 0
    except OSError:
        return False


def run(*command: object) -> int:
    """Exit code of a program that shares this terminal."""
    return subprocess.run([*map(str, command)], cwd=ROOT).returncode


def install(*words: str) -> str:
    """What `python -m pip …` (or uv) in .venv complains of, nothing on success. Exits when pip is offline."""
    # pip's own 5 tries are minutes when several packages are out of reach
    os.environ.setdefault("PIP_RETRIES", "2")
    command = [str(PYTHON), "-m", *words, *([] if sys.stdout.isatty() else ["--quiet"])]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode == 0:
        return ""
    if words[0] == "pip" and is_offline(done.stderr):  # uv's own host may be blocked where pip's is not
        sys.exit(
            "superpose: the package registry could not be reached: "
            "check the network (and the proxy or mirror that pip is set up with) and run this again"
        )
    return done.stderr.strip() or "it did not say why"


def is_offline(complaint: str) -> bool:
    """Whether pip failed because it reached nobody."""
    return re.search(OFFLINE, complaint) is not None


def torch_plan(choice: str, system: str, has_gpu: bool) -> list[list[str]]:
    """Installs of torch to try in order; the first that succeeds counts. `choice` is SUPERPOSE_TORCH."""
    if choice not in ("", "cpu", "cuda", "skip"):
        sys.exit(f"superpose: SUPERPOSE_TORCH is {choice!r}; allowed are cpu, cuda and skip")
    if choice == "skip":
        return []
    plain = ["pip", "install", TORCH]
    if system != "Linux" or choice == "cuda" or (has_gpu and choice != "cpu"):
        return [plain]
    # On Linux the plain one is a CUDA build of 2.7 GB. A local +cpu wheel is found or refused at once; uv
    # knows where CPU builds are, so that no host stands here.
    return [
        ["pip", "install", TORCH + "+cpu"],
        ["uv", "pip", "install", "--torch-backend", "cpu", TORCH],
        plain,
    ]


def install_torch(choice: str) -> bool:
    """Whether .venv has torch afterwards. That it has none is fine only when it was to be skipped."""
    has_torch = [PYTHON, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"]
    if works(*has_torch):
        return True
    has_gpu = Path("/proc/driver/nvidia/version").exists() or works("nvidia-smi", "-L")
    for words in torch_plan(choice, platform.system(), has_gpu):
        with_cuda = platform.system() == "Linux" and words == ["pip", "install", TORCH]
        say("installing torch: " + " ".join(words) + (" (with CUDA, about 2.7 GB)" if with_cuda else ""))
        if words[0] == "uv" and install("pip", "install", "--quiet", "uv"):
            continue
        if not install(*words):
            return True
    return choice != "skip"  # then the install of superpose looks for any torch, or says why there is none


def make_venv() -> None:
    """Makes .venv with pip inside; Debian's Python without python3-venv lends its own pip."""
    if not works(PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"):
        say("making .venv")
        if run(sys.executable, "-m", "venv", "--without-pip", "--clear", VENV):
            sys.exit("superpose: this Python cannot make environments: install python3-venv and run this again")
    if not (
        works(PYTHON, "-m", "pip", "--version")
        or works(PYTHON, "-m", "ensurepip", "--default-pip")
        or works(sys.executable, "-m", "pip", "--python", PYTHON, "install", "pip")
        or works("uv", "pip", "install", "--python", PYTHON, "pip")
    ):
        sys.exit("superpose: there is no pip for .venv: install python3-venv (or pip) and run this again")


def fingerprint(root: Path, choice: str) -> str:
    """What a set-up depends on; when it changes, set-up runs again."""
    parts = [str(root), platform.system(), platform.machine(), choice, TORCH]
    parts += [(root / name).read_text("utf-8") for name in ("pyproject.toml", "hatch_build.py")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def setup(*extras: str) -> None:
    """Brings .venv, the page and the demo model up to date; costs next to nothing when they are."""
    import hatch_build

    choice = os.environ.get("SUPERPOSE_TORCH", "")
    key = fingerprint(ROOT, choice)
    state = json.loads(STAMP.read_text()) if STAMP.exists() and PYTHON.exists() else {}
    wanted = set(extras)
    if state.get("key") == key:
        if wanted <= set(state["extras"]):
            if hatch_build.is_fresh(ROOT):
                return
            if "test" in state["extras"]:  # which brought node
                if run(PYTHON, "hatch_build.py", "build"):
                    sys.exit(1)
                return
        wanted |= set(state["extras"])
    make_venv()
    has_torch = install_torch(choice)
    extras_now = sorted(wanted if has_torch else wanted - {"torch"})
    target = f".[{','.join(extras_now)}]" if extras_now else "."
    say(f"installing superpose: pip install --editable {target}")
    complaint = install("pip", "install", "--editable", target)
    if complaint:
        sys.exit(complaint + "\nsuperpose: the install failed, pip's reason stands above")
    if has_torch and run(PYTHON, "-m", "superpose.models", "fetch-demo"):
        sys.exit(1)
    STAMP.write_text(json.dumps({"key": key, "extras": sorted(wanted)}))


def begin_llamacpp() -> "subprocess.Popen[bytes] | None":
    """The build of llama.cpp, which takes minutes, in the background; None where it is there or cannot be."""
    make_venv()
    if works(PYTHON, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('llama_cpp') is None)"):
        return None
    if not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        say("there is no C++ compiler, so llama.cpp cannot be built and the tests of its engine do not run")
        return None
    say(f"building {LLAMACPP} in the background (log: {WHEELS / 'log'})")
    shutil.rmtree(WHEELS, ignore_errors=True)
    WHEELS.mkdir()
    # A wheel apart, so that pip may install the rest meanwhile; without what reads images.
    words = ["-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(WHEELS), LLAMACPP]
    settings = {"CMAKE_ARGS": "-DLLAVA_BUILD=OFF", **os.environ}
    with (WHEELS / "log").open("wb") as log:
        return subprocess.Popen([str(PYTHON), *words], cwd=ROOT, env=settings, stdout=log, stderr=log)


def finish_llamacpp(build: "subprocess.Popen[bytes] | None") -> None:
    """Waits for that build and installs it. One that failed is told, and is an error where CI=true."""
    if build is None:
        return
    if build.poll() is None:
        say("waiting for the build of llama.cpp")
    failed = build.wait()
    complaint = "" if failed else install("pip", "install", *map(str, WHEELS.glob("*.whl")))
    if failed or complaint:
        lines = (WHEELS / "log").read_text("utf-8", "replace").split("\n") if failed else complaint.split("\n")
        print("\n".join(lines[-20:]))
        say("llama.cpp could not be built, see above: the tests of its engine do not run")
        if os.environ.get("CI") == "true":
            sys.exit(1)


def setup_browser() -> None:
    """Finds or installs a Chromium for the tests; without one they skip, or fail where CI=true."""
    state = json.loads(STAMP.read_text())
    if state.get("browser"):
        return
    find = [PYTHON, "tests/conftest.py"]

    def install_with(words: list[str]) -> bool:
        say("no Chromium yet, trying: " + " ".join(words))
        return works(*words) and works(*find)

    ways = [] if os.environ.get("SUPERPOSE_BROWSER") else browser_installs(platform.system())
    found = works(*find) or any(map(install_with, ways))
    if found:
        STAMP.write_text(json.dumps({**state, "browser": True}))
    else:
        say("no Chromium could be had, so the browser tests do not run (SUPERPOSE_BROWSER can name one)")


def browser_installs(system: str) -> list[list[str]]:
    """Ways to a Chromium, in the order to try."""
    ways = [[str(PYTHON), "-m", "playwright", "install", "--only-shell", "chromium"]]
    if system == "Linux" and shutil.which("apt-get") and os.geteuid() == 0:
        package = "apt-get install -y --no-install-recommends chromium-headless-shell"
        ways.append(["sh", "-c", "apt-get update && " + package])
        ways.append([str(PYTHON), "-m", "playwright", "install-deps", "chromium"])
    return ways


def page_scripts(*scripts: str) -> int:
    """Exit code of npm scripts of web/."""
    if not (ROOT / "web/package.json").exists():
        say("web/ is missing: the page's checks are skipped")
        return 0
    return run(PYTHON, "hatch_build.py", *scripts)


def demo(words: list[str]) -> int:
    """Serves the lab."""
    setup("torch")
    program = PYTHON.with_name("superpose.exe" if os.name == "nt" else "superpose")
    if os.name != "nt":
        os.execv(program, [str(program), "serve", *words])
    return run(program, "serve", *words)


def test(words: list[str]) -> int:
    """Runs all tests. pytest is last, so that its closing line is."""
    build = begin_llamacpp()
    setup("torch", "test")
    setup_browser()
    page = page_scripts("check", "test")
    finish_llamacpp(build)
    if page:
        say("the page's checks FAILED, see above; Python's tests follow, and the exit code counts both")
    return run(PYTHON, "-m", "pytest", *words) or page


def check(words: list[str]) -> int:
    """Runs everything that judges the source without running it."""
    setup("torch", "test")
    failed = []
    for command in ("ruff check", "ruff format --check", "mypy", "pytest -q tests/unit/test_layers.py"):
        if run(PYTHON, "-m", *command.split()):
            failed.append(command)
    if page_scripts("check"):
        failed.append("svelte-check")
    say("failed: " + ", ".join(failed) if failed else "all checks passed")
    return len(failed)


def prepare(words: list[str]) -> int:
    """Prepares for everything."""
    build = begin_llamacpp()
    setup("torch", "test")
    setup_browser()
    finish_llamacpp(build)
    return 0


COMMANDS = {"demo": demo, "test": test, "check": check, "setup": prepare}


def main(words: list[str]) -> int:
    """Exit code of the named command."""
    if not words or words[0] not in COMMANDS:
        print(__doc__)
        return 0 if words[:1] in (["-h"], ["--help"], ["help"]) else 2
    if {"-h", "--help"}.intersection(words) and (words[0] in ("check", "setup") or not STAMP.exists()):
        print(__doc__)  # who asks does not wait minutes for a set-up
        return 0
    try:
        return COMMANDS[words[0]](words[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
