"""Every kind of file that memviz writes, on a disk that is full: one sentence, and nothing lost."""

import errno
import os
import resource
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.written import KINDS

Fill = Callable[[], None]


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Fill]]:
    """A folder, and what makes its disk full: a disk of 4 MB, or no file may grow."""
    if request.param == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mounted)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("a disk of its own needs the right to mount one")
    try:
        yield mounted, lambda: _fill(mounted / "filler")
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def _fill(path: Path) -> None:
    with (
        path.open("wb", buffering=0) as file,
        pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
    ):
        while True:
            file.write(bytes(1024))


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def told_by(kind: Callable[[Path], Any], folder: Path) -> list[str]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            kind(folder)
        except OSError as error:
            return [str(error)]
    return [str(warning.message) for warning in warned]


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_not_be_written_is_told_in_a_sentence_and_leaves_nothing(
    kind: Callable[[Path], Any], disk: tuple[Path, Fill]
) -> None:
    place, fill = disk
    folder, other = place / "new", place / "written"
    folder.mkdir()
    other.mkdir()
    kind(other)
    before = contents(other)
    fill()
    told = told_by(kind, folder)
    assert told, "nothing was said"
    for sentence in told:
        assert "can't be written" in sentence or "could not be kept" in sentence, sentence
        assert "\n" not in sentence and len(sentence) < 700, sentence
    assert contents(folder) == {}
    told_by(kind, other)  # over what is there
    assert contents(other) == before
