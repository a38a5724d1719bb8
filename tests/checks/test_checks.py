"""What messages quote, and files that are looked at before they are read or replaced."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memviz.checks import check_file, check_place, listed, quoted, read_json

ANYTHING = st.recursive(
    st.one_of(st.text(max_size=400), st.integers(), st.floats(), st.none(), st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(ANYTHING, st.integers(10, 300))
def test_a_quote_is_one_short_line(value: object, most: int) -> None:
    text = quoted(value, most)
    assert len(text) <= most and "\n" not in text
    if not isinstance(value, list | dict) and len(repr(value)) <= most:
        assert text == repr(value)


class Bad:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        Bad(),
        [Bad()],
        torch.zeros(1000, 1000),
        np.zeros((50, 50)),
        list(range(10_000_000)),
        "x" * 10_000_000,
        10**5000,
        {str(k): k for k in range(100_000)},
        "\n\r\t" * 1000,
        "\ud800",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_quote_of_anything_is_short_and_quick(value: object) -> None:
    start = time.perf_counter()
    text = quoted(value)
    assert len(text) <= 200 and text.isprintable()
    assert time.perf_counter() - start < 1


@given(st.lists(st.text(max_size=300)))
def test_a_list_is_short(names: list[str]) -> None:
    text = listed(names)
    assert len(text) <= 240
    if len(", ".join(names)) <= 200:
        assert text == ", ".join(names)


def test_a_list_says_how_many_more_there_are() -> None:
    assert listed([f"layer{k}" for k in range(500)]).endswith(" more")
    assert listed(["a" * 300, "b"]) == "a" * 199 + "… and 1 more"
    assert listed([]) == ""


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused: dict[Path, str] = {
        tmp_path / "pipe": "pipe' is a pipe, not a file; name a file",
        tmp_path: "is a folder, not a file; name a file",
        Path("/dev/null"): "'/dev/null' is a device, not a file",
        tmp_path / "large": "has 11 bytes, and such a file has 10 at most",
    }
    for path, words in refused.items():
        with pytest.raises(ValueError, match=words):
            check_file(path, most=10)
    for missing in ("none", "loop", "large/none", "a\0b", "n" * 300):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            check_file(tmp_path / missing)
    check_file(tmp_path / "large", most=11)
    for odd in (None, 3, b"a", ["a"]):
        for check in (check_file, check_place):
            with pytest.raises(TypeError, match="expected the path of a file, got .*; give text"):
                check(odd)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no file can be named"):
        check_place("a\0b")


def test_a_place_to_write(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_place(tmp_path / "new.csv")
    with pytest.raises(FileNotFoundError, match="to write 'new.csv' in; make it first"):
        check_place(tmp_path / "none" / "new.csv")
    taken = {tmp_path / "pipe": "a pipe", tmp_path: "a folder", Path("/dev/null"): "a device"}
    for path, words in taken.items():
        with pytest.raises(ValueError, match=f"is {words}, not a file"):
            check_place(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 200_000, "is not JSON .nested too deeply"),
        (b'{"a":' * 200_000, "is not JSON .nested too deeply"),
        (b"\xff\xfe", "is not JSON"),
        (b"", "is not JSON"),
        (b"9" * 5000, "is not JSON"),
        (b" " * 300_000, "has 300,000 bytes"),
    ],
    ids=["lists", "dicts", "no text", "empty", "digits", "large"],
)
def test_json_that_is_none(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_json(path, most=1_000_000 if len(content) != 300_000 else 1000)
