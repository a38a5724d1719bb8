"""Every kind of file that memviz writes, damaged: the right content, or one sentence."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.written import KINDS, same

ROUNDS = 24


def damages(content: bytes) -> Iterator[bytes]:
    """The content with a bit flipped, cut, or longer than it was."""
    random = np.random.default_rng(0)
    for round_ in range(ROUNDS):
        ends = (len(content), min(len(content), 400))
        place = int(random.integers(ends[round_ % 2]))
        if round_ % 6 == 0:
            yield content[:place]
        elif round_ % 6 == 1:
            yield content + b"\0"
        else:
            bit = 1 << int(random.integers(8))
            yield content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
    yield b""


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_content_or_one_sentence(
    kind: Callable[[Path], Callable[[], Any]], tmp_path: Path
) -> None:
    folder, kept = tmp_path / "written", tmp_path / "kept"
    folder.mkdir()
    read = kind(folder)
    shutil.copytree(folder, kept)

    def restore() -> None:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)

    restore()
    expected = read()  # a training goes on from its folder, so it is restored before each reading
    files = [
        path for path in sorted(folder.rglob("*")) if (kept / path.relative_to(folder)).is_file()
    ]
    told: list[str] = []

    def use(file: Path) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found = read()
            except (ValueError, FileNotFoundError) as error:
                told.append(str(error))
                return
        told.extend(str(warning.message) for warning in warned)
        assert all(map(same, found, expected)), f"{file.name} was read as something else"

    for file in files:
        content = (kept / file.relative_to(folder)).read_bytes()
        for damaged in damages(content):
            restore()
            file.write_bytes(damaged)
            use(file)
        restore()
        file.unlink()
        os.mkfifo(file)
        use(file)
    assert files and told
    for sentence in told:
        assert str(folder) in sentence and "\n" not in sentence and len(sentence) < 700, sentence
