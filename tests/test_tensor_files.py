"""Tensors on disk: hashed as a slow count by hand does, whole or not there, damage told."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from memviz import tensor_files
from memviz.tensor_files import (
    DamagedFile,
    NotWritten,
    atomic_write,
    check_writable,
    digest,
    read,
    write,
    write_hashed,
)

DTYPES = (torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool)


def drawn(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 9, shape, generator=generator).to(dtype)


def by_hand(tensors: list[tuple[str, Tensor]], start: str) -> str:
    """The hash of one string of bytes, made with numpy."""
    content = start.encode()
    for name, tensor in tensors:
        content += f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        content += tensor.numpy().tobytes("C")
    return hashlib.sha256(content).hexdigest()


@given(
    shapes=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.tuples(
            st.lists(st.integers(0, 3), max_size=3).map(tuple),
            st.sampled_from(DTYPES),
            st.booleans(),
        ),
        max_size=3,
    ),
    facts=st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)
def test_the_hash_equals_one_made_by_hand(shapes, facts):
    pairs = [
        (name, drawn(shape, dtype).mT if turned and len(shape) > 1 else drawn(shape, dtype))
        for name, (shape, dtype, turned) in shapes.items()
    ]
    start = "" if facts is None else json.dumps(facts, sort_keys=True)
    assert digest(pairs, facts) == by_hand(pairs, start)
    in_order = sorted(pairs, key=lambda pair: pair[0])
    assert digest(dict(pairs), facts) == by_hand(in_order, start)


def test_no_facts_are_not_empty_facts():
    one = {"w": torch.ones(2)}
    assert digest(one) == by_hand(list(one.items()), "")
    assert digest(one, {}) == by_hand(list(one.items()), "{}") != digest(one)


def test_what_is_written_is_read(tmp_path: Path):
    tensors = {
        "turned": drawn((2, 3), torch.float32).mT,
        "learned": torch.ones(2, requires_grad=True),
        "small": torch.ones(3, dtype=torch.bfloat16),
        "one": torch.tensor(7),
        "none": torch.zeros(0, 4),
    }
    path = tmp_path / "a.safetensors"
    write(path, tensors, {"é": "ü"})
    found, facts = read(path)
    assert facts == {"é": "ü"} and set(found) == set(tensors)
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in tensors.items())
    assert digest(found) == digest(tensors)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [OSError("disk full"), KeyboardInterrupt()])
def test_a_writing_that_stops_leaves_what_was_there(tmp_path: Path, stop: BaseException):
    path = tmp_path / "a.txt"
    for before in ([], [path]):
        with pytest.raises(type(stop)), atomic_write(path) as part:
            part.write_text("half of it")
            raise stop
        assert list(tmp_path.iterdir()) == before
        path.write_text("whole")
    assert path.read_text() == "whole"
    with atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "whole"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"margin,loss\n1,2\n", None])
def test_damage_is_told(tmp_path: Path, content: bytes | None):
    path = tmp_path / "a.safetensors"
    with pytest.raises(DamagedFile, match="No such file"):
        read(path)
    write(path, {"w": torch.ones(9)}, {})
    path.write_bytes(path.read_bytes()[:-4] if content is None else content)
    with pytest.raises(DamagedFile):
        read(path)


@pytest.fixture
def small_files():
    """No file may grow beyond 100 kB, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_whatever_can_not_be_written_is_one_error(tmp_path: Path, small_files: None):
    path, large = tmp_path / "a.safetensors", {"w": torch.ones(10**6)}
    write(path, {"w": torch.ones(2)}, {})
    for attempt in (
        lambda: write(path, large, {}),
        lambda: write_hashed(path, large, {}),
        lambda: write_hashed(path / "below" / "b.safetensors", large, {}),
        lambda: write(tmp_path / "none" / "b.safetensors", large, {}),
        lambda: check_writable(tmp_path, 10**6),
        lambda: check_writable(path / "below"),
    ):
        with pytest.raises(
            NotWritten, match=rf"^'{re.escape(str(tmp_path))}.*' can't be written: "
        ):
            attempt()
        assert read(path)[0]["w"].tolist() == [1, 1] and list(tmp_path.iterdir()) == [path]
    with pytest.raises(NotWritten, match=r"^'n{290,}…' can't be written: File name too long$"):
        check_writable(Path("n" * 1000))
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from memviz.tensor_files import atomic_write

with atomic_write(Path(sys.argv[1])) as part:
    part.write_text("half of it")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path):
    path = tmp_path / "a.txt"
    command = [sys.executable, "-c", KILLED, str(path)]
    (tmp_path / "aabcd1234.part").write_text("of an earlier version")
    (tmp_path / "abcde1234x.part").write_text("somebody else's")
    for _ in range(2):
        assert subprocess.run([*command, "killed"]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.part"))) == 2  # the second one removed what the first one left
    living = subprocess.Popen(
        [*command, "living"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert living.stdout.readline() == "writing\n"
    with atomic_write(path) as part:
        part.write_text("whole")
    assert len(list(tmp_path.glob("*.part"))) == 2 and path.read_text() == "whole"
    living.communicate("go on")
    assert path.read_text() == "half of it"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "abcde1234x.part"]


@pytest.mark.parametrize("moment", ["before it is locked", "when it is locked", "in the block"])
def test_whoever_looks_for_orphans_leaves_a_living_writer_alone_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    path, lock, looked = tmp_path / "a.txt", tensor_files._lock, []

    def look(at: str) -> None:
        if at == moment and not looked:
            looked.append(at)
            tensor_files.remove_orphans(path)

    def lock_watched(file: IO[bytes]) -> None:
        look("before it is locked")
        lock(file)
        look("when it is locked")

    monkeypatch.setattr(tensor_files, "_lock", lock_watched)
    with atomic_write(path) as part:
        look("in the block")
        part.write_text("whole")
    assert looked and path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("stem", ["n" * 251, "é" * 125])
def test_a_name_as_long_as_a_file_may_have_is_written_and_its_orphans_are_removed(
    tmp_path: Path, stem: str
):
    path = tmp_path / f"{stem}.csv"
    with atomic_write(path) as part:
        part.write_text("a,b")
    assert path.read_text() == "a,b"
    (tmp_path / f"{stem.encode()[:200].decode(errors='ignore')}0123abcd.part").write_text("old")
    with atomic_write(path) as part:
        part.write_text("c")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
