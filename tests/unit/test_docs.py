"""The docs are true: code in them runs, generated pages are up to date."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def superpose(*arguments, data):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SUPERPOSE_DATA": str(data)}
    return subprocess.run(
        [sys.executable, "-m", "superpose", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_tutorials_strategy_runs(tmp_path):
    text = (ROOT / "docs" / "write-a-strategy.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 22
    file = tmp_path / "half.py"
    file.write_text(code)
    told = superpose("strategies", "half", "--strategies", str(file), data=tmp_path)
    assert "share = 0.5  (0 to 1)" in told.stdout
    chosen = ["--strategies", str(file), "--strategy", "half", "--set", "share=0.7"]
    steps = ["--T-e", "20", "--T-total", "25", "--seed", "5"]
    done = superpose("run", "x", "--model", "toy", *chosen, *steps, "--json", data=tmp_path)
    record = json.loads(done.stdout)
    assert record["spec"]["strategy"] == {"name": "half", "share": 0.7}
    weights = {tuple(round(f["weight"], 3) for f in s["fed"]) for s in record["steps"] if s["kind"] == "mixture"}
    assert weights == {(1.0,), (0.7, 0.3)}


def test_a_file_without_strategies_or_with_a_fault_gets_one_sentence(tmp_path):
    empty, faulty = tmp_path / "empty.py", tmp_path / "faulty.py"
    empty.write_text("x = 1\n")
    faulty.write_text("1 / 0\n")
    for file, sentence in (
        (empty, "empty.py registers no strategy"),
        (faulty, "faulty.py raised ZeroDivisionError: division by zero"),
        (tmp_path / "none.py", "--strategies takes a Python file"),
    ):
        refused = superpose("strategies", "--strategies", str(file), data=tmp_path)
        assert refused.returncode == 2
        assert sentence in refused.stderr.splitlines()[-1]


def test_the_strategy_reference_is_up_to_date(tmp_path):
    """Make it again with: superpose strategies --markdown"""
    page = (ROOT / "docs" / "strategies.md").read_text()
    generated = superpose("strategies", "--markdown", data=tmp_path).stdout.strip()
    assert generated in page


def test_links_between_the_docs_lead_somewhere():
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"
