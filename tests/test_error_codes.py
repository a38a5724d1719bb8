"""The codes at the end of messages: each leads to a heading of the error page, which quotes it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/errors.md").read_text()
HEADING = re.compile(r"^\((\w+)\)=\n### (\w+): (.+)$", re.M)
HEADINGS = list(HEADING.finditer(PAGE))
ENDS = [*(found.start() for found in HEADINGS[1:]), len(PAGE)]
SECTIONS = {found[2]: PAGE[found.end() : end] for found, end in zip(HEADINGS, ENDS, strict=True)}
RAISED = {
    code
    for path in (ROOT / "memviz").rglob("*.py")
    if path.name != "_code.py"
    for code in re.findall(r'\bcoded\(\s*"(\w+)"', path.read_text())
}


def test_every_code_has_one_heading_and_every_heading_a_code_that_is_raised() -> None:
    codes = [found[2] for found in HEADINGS]
    assert [found[1] for found in HEADINGS] == [code.lower() for code in codes]
    assert codes == [f"E{number:02d}" for number in range(1, len(codes) + 1)]
    assert set(codes) == RAISED
    assert len(HEADINGS) == PAGE.count("\n### ") == PAGE.count(")=\n")


@pytest.mark.parametrize("code", sorted(RAISED))
def test_a_heading_is_of_the_message_below_it(code: str) -> None:
    # That memviz raises these messages is for the test that runs the page.
    quoted = re.findall(r"^Traceback .*\n[\w.]+: (.+)$", SECTIONS[code], re.M)
    assert quoted
    heading = next(found[3] for found in HEADINGS if found[2] == code)
    words = ".*".join(re.escape(piece.strip()) for piece in heading.split("…"))
    for message in quoted:
        assert message.endswith(f" (memviz {code}).") and len(message) <= 400
        assert re.search(words, message)
    assert "**Cause.** " in SECTIONS[code] and "**Cure.** " in SECTIONS[code]
