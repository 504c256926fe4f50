"""A first attempt at a file in a process of its own, which a broken or hostile one may end in place of ours.

As a script it makes that attempt: `python -m superpose.engines.llamacpp_child FILE`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from superpose.engine import EngineError, Progress, UnsupportedModel
from superpose.engines.llamacpp_file import GgufFile, check
from superpose.engines.llamacpp_library import VERSION, Context, Model, lays_out, system
from superpose.engines.llamacpp_tokenizer import LlamaTokenizer

_LONGEST = 600  # seconds
_TEXT = "Ein Test: 12345 + 0.5  \n\n  naïve ½ 日本 🙂 <|im_end|></s>"


def attempt(path: Path, cache: Path, progress: Progress) -> None:
    """Nothing, if llama.cpp loads and decodes the file; remembered in `cache` until file or processor changes.

    Raises UnsupportedModel with llama.cpp's reason.
    """
    status = path.stat()
    key = f"{VERSION}\0{system()}\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    seen = cache / "gguf" / "tried" / hashlib.sha256(key.encode()).hexdigest()
    if seen.is_file():
        return
    progress("first attempt", 0, 0)
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedModel(f"{path.name} cannot be loaded: llama.cpp was not ready after {_LONGEST} s") from error
    if done.returncode:
        raise UnsupportedModel(_sentence(path.name, done.returncode, done.stderr))
    with contextlib.suppress(OSError):  # then the next load makes the attempt again
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.touch()


def _sentence(name: str, code: int, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it did not say why"]
    if code == 1:
        return lines[-1]
    asserts = [line for line in lines if "GGML_A" in line]
    reason = re.sub(r"^\S*/", "", asserts[0]) if asserts else _signal(-code)
    return f"{name} cannot be loaded: llama.cpp crashed on it ({reason[:200]})"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # Windows has codes of its own
        return f"exit code {-number}"


def main(path: Path) -> int:
    """Exit code of an attempt; what is wrong is the last line on stderr."""
    try:
        file = GgufFile(path)
        check(file, path.name)
        tokenizer = LlamaTokenizer(path, file.meta["tokenizer.chat_template"])
        for attempted in (tokenizer.encode_template, tokenizer.encode, partial(tokenizer.chat, "")):
            with contextlib.suppress(ValueError):  # which is an answer
                attempted(_TEXT)
        model = Model(path, anew=lays_out(file.kind))
        if not model.reason():
            context = Context(model, 2, 32, 4, exact=False, threads=1)
            context.decode([0], [0], np.zeros(1, np.int32))
            context.copy(0, 1, 1)
            context.decode([0, 1], [1, 1], np.zeros((2, model.width), np.float32))
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
