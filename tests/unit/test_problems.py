"""What a sentence quotes."""

from superpose.problems import clip


def test_what_is_quoted_neither_steers_a_terminal_nor_fills_it() -> None:
    assert clip("qwen naïve 日本 🙂") == "qwen naïve 日本 🙂"
    assert clip("a\x1b]0;x\x07\nERROR b\ud800") == "a\ufffd]0;x\ufffd\ufffdERROR b?"
    assert clip("x" * 80) == "x" * 80
    assert clip("x" * 81) == "x" * 79 + "…"
