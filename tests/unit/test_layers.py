"""The layer rule of the house: a file imports only from lower levels, and each heavy library has one home."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/superpose"

# Lowest first. A folder stands for all of its files.
LEVELS = [
    ["__init__", "types", "rng", "problems"],
    ["strategy", "engine"],
    ["strategies", "engines", "models", "spec", "texts"],
    ["events", "store_schema", "store_words", "store_family", "store_checkpoint"],
    ["replay", "store_list", "store_events", "formats"],
    ["imports", "planning"],
    ["decoding", "store"],
    ["recorded"],
    ["live", "questions", "exports"],
    ["reading"],
    ["runner"],
    ["evaluation"],
    ["server"],
    ["terminal"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
SHARED: dict[str, list[str]] = {
    "strategies": ["parts", "families"],
    "engines": ["blend", "chat", "checked", "host", "pace", "readout", "template", "trial"],
}  # what all files of these folders may import

HOMES = {
    "torch": ["engines/torch_engine*"],
    "transformers": ["engines/torch_engine*"],
    "triton": ["engines/torch_engine_flash.py"],
    "safetensors": ["engines/torch_engine*"],
    "gguf": ["engines/torch_engine*", "engines/llamacpp*"],
    "llama_cpp": ["engines/llamacpp*"],
    "jinja2": ["engines/template.py"],
    "huggingface_hub": ["models.py"],
    "sqlite3": ["store*.py"],
    "fastapi": ["server/*"],
    "starlette": ["server/*"],
    "uvicorn": ["server/*"],
    "ray": ["evaluation/ray_executor.py"],
}
PROJECT = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
BASE = {re.split("[<>=]", line)[0] for line in PROJECT["dependencies"]}
THEIRS = {"pydantic_core", "starlette", "typing_extensions"}  # always come with those
EXTRA = {"tqdm"}  # of superpose[torch]; only where a library of HOMES is at home


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, those inside functions too; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def place(path: Path) -> tuple[str, str]:
    """Room and file: ("engines", "toy") for engines/toy.py, ("store", "") for store.py."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0], parts[1] if len(parts) > 1 else ""


def may_import(room: str, file: str, other_room: str, other_file: str) -> str:
    """Why this import is against the rule, else nothing."""
    if other_room not in LEVEL:
        return f"{other_room} has no level: add it to LEVELS here and to DESIGN section 2"
    if room != other_room:
        if LEVEL[other_room] < LEVEL[room]:
            return ""
        return f"{room} may import only from lower levels, and {other_room} is not below it"
    if room not in SHARED or file == "__init__" or other_file in SHARED[room]:
        return ""
    if room == "engines" and file.split("_")[0] == other_file.split("_")[0]:
        return ""  # one engine in several files
    return f"files of {room}/ do not know each other, except {', '.join(SHARED[room]) or 'parts of one engine'}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    room, file = place(path)
    assert room in LEVEL, f"{room} has no level: add it to LEVELS here and to DESIGN section 2"
    for line, name in imports(path):
        package, _, inside = name.partition(".")
        if package != "superpose" or inside == "__version__":
            continue
        other_room, _, rest = inside.partition(".")
        wrong = may_import(room, file, other_room, rest.split(".")[0])
        assert not wrong, f"{path}:{line} imports {name}: {wrong}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    relative = path.relative_to(SOURCE).as_posix()
    for line, name in imports(path):
        library = name.partition(".")[0]
        homes = HOMES.get(library)
        at_home = homes is None or any(fnmatch(relative, home) for home in homes)
        assert at_home, f"{path}:{line} imports {library}, which lives in {', '.join(homes or [])}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_everything_else_is_a_base_dependency(path: Path) -> None:
    relative = path.relative_to(SOURCE).as_posix()
    is_home = any(fnmatch(relative, home) for homes in HOMES.values() for home in homes)
    allowed = {"superpose"} | BASE | THEIRS | set(HOMES) | (EXTRA if is_home else set())
    for line, name in imports(path):
        library = name.partition(".")[0]
        if library not in sys.stdlib_module_names:
            assert library in allowed, f"{path}:{line} imports {library}, which a plain install does not have"


def test_the_rule_itself() -> None:
    assert may_import("server", "routes", "store", "") == ""
    assert may_import("engines", "torch_engine_cache", "engines", "torch_engine") == ""
    assert may_import("strategies", "nucleus", "strategies", "parts") == ""
    assert "only from lower levels" in may_import("store", "", "runner", "")
    assert "only from lower levels" in may_import("spec", "", "models", "")
    assert "do not know each other" in may_import("engines", "toy", "engines", "torch_engine")
    assert "do not know each other" in may_import("strategies", "nucleus", "strategies", "dirichlet")
    assert "has no level" in may_import("server", "", "utils", "")
