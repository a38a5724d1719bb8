"""Streams of passages: the same answers part by part, also after a kill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import memviz as mv
from memviz.models.gpt import GPT
from memviz.probes.extraction import Extraction, extract, extract_stream

V = 13


def gpt(seed: int = 0) -> GPT:
    return GPT(V, width=16, blocks=2, heads=4, context=16, seed=seed).eval()


def drawn(n: int) -> Tensor:
    return torch.randint(1, V, (n, 12), generator=torch.Generator().manual_seed(0))


def stream(passages: Any, folder: Path, **given: Any) -> list[Extraction]:
    options: dict[str, Any] = {"part": 8, "batch_size": 4, "progress": False, "model": gpt()}
    options |= given
    return list(extract_stream(options.pop("model"), passages, folder, 5, 7, **options))


@pytest.mark.parametrize("form", ["tensor", "list", "memmap"])
def test_parts_together_are_one_extraction(form: str, tmp_path: Path) -> None:
    passages: Any = drawn(29)
    wanted = extract(gpt(), passages, 5, 7, progress=False)
    if form == "memmap":
        np.save(tmp_path / "tokens.npy", passages.numpy().astype(np.uint16))
        passages = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    parts = stream(passages.tolist() if form == "list" else passages, tmp_path / "parts")
    assert [len(part) for part in parts] == [8, 8, 8, 5]
    assert torch.equal(torch.cat([part.said for part in parts]), wanted.said)
    assert sum((part.ids for part in parts), ()) == wanted.ids


class Watched:
    """Passages that count what is read of them, and the most at a time."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.most = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: slice) -> Tensor:
        self.most = max(self.most, len(self.rows[place]))
        return self.rows[place]


def test_no_more_than_a_part_is_read_at_a_time(tmp_path: Path) -> None:
    rows = Watched(drawn(40))
    stream(rows, tmp_path)
    assert rows.most == 8


def test_a_second_call_decodes_only_what_is_missing(tmp_path: Path) -> None:
    first = stream(drawn(29), tmp_path)
    (tmp_path / "part-000002.safetensors").unlink()
    model, decoded = gpt(), []
    model.register_forward_hook(lambda _m, given, _o: decoded.append(len(given[0])))
    second = stream(drawn(29), tmp_path, model=model)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.said, other.said) and one.ids == other.ids
    # Steps of 7 tokens: two batches of the missing part, and the first passage of each other one.
    assert sum(decoded) <= 7 * (8 + 3) * 2  # a tie is decoded twice
    assert sum(decoded) >= 7 * (8 + 3)


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
from tests.probes.extraction.test_stream import drawn, gpt
from memviz.probes.extraction import extract_stream
for part in extract_stream(gpt(), drawn(160), {folder!r}, 5, 7, part=8, progress=False):
    time.sleep(0.1)
"""


def test_a_killed_stream_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    root = str(Path(__file__).parents[3])
    code = KILLED.format(tests=root, folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], cwd=root) as process:
        end = time.monotonic() + 120
        while len(list(folder.glob("part-*.safetensors"))) < 4 and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.safetensors")}
    assert 4 <= len(kept) < 20
    parts = stream(drawn(160), folder)
    wanted = extract(gpt(), drawn(160), 5, 7, progress=False)
    assert torch.equal(torch.cat([part.said for part in parts]), wanted.said)
    for name, written in kept.items():
        assert (folder / name).stat().st_mtime_ns == written
    assert len(list(folder.iterdir())) == 20  # and no half-written file


def test_what_a_kill_left_beside_a_finished_part_is_removed(tmp_path: Path) -> None:
    stream(drawn(20)[:8], tmp_path)
    left = tmp_path / "part-000000abcdef01.part"  # as atomic_write names it
    left.mkdir()
    (left / "lock").touch()
    stream(drawn(20), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_parts_of_something_else_are_refused(tmp_path: Path) -> None:
    stream(drawn(20), tmp_path)
    with pytest.raises(ValueError, match="is of another model, or other units were ablated; name"):
        stream(drawn(20), tmp_path, model=gpt(seed=1))
    with pytest.raises(ValueError, match="is of another part size"):
        stream(drawn(20), tmp_path, part=4)
    with pytest.raises(ValueError, match="is of other passages"):
        stream(drawn(20).flip(0), tmp_path)
    with pytest.raises(ValueError, match="is of other passages"):
        stream(drawn(20), tmp_path, ids=[f"p{k}" for k in range(20)])
    with pytest.raises(ValueError, match="is of another prompt or continuation"):
        list(extract_stream(gpt(), drawn(20), tmp_path, 6, 6, part=8, progress=False))
    model = gpt()
    with pytest.raises(ValueError, match="is of another model, or other units were ablated"):
        with mv.ablate(model, "blocks.0.attention:0-3"):
            stream(drawn(20), tmp_path, model=model)
    model.norm.register_forward_hook(lambda _m, _a, out: -out)
    with pytest.raises(ValueError, match="a model that says something else"):
        stream(drawn(20), tmp_path, model=model)


def test_a_stream_of_an_ablated_model_goes_on_in_another_block(tmp_path: Path) -> None:
    model, units = gpt(), "blocks.0.attention:0-3 blocks.1.up:0-40"
    with mv.ablate(model, units):
        wanted = extract(model, drawn(20), 5, 7, progress=False).said
        next(iter(extract_stream(model, drawn(20), tmp_path, 5, 7, part=8, progress=False)))
    with mv.ablate(model, units):
        found = torch.cat([part.said for part in stream(drawn(20), tmp_path, model=model)])
    assert torch.equal(found, wanted)
    assert not torch.equal(found, extract(model, drawn(20), 5, 7, progress=False).said)


@pytest.mark.parametrize("first", [0, 1])
def test_no_stream_holds_parts_of_two_models(first: int, tmp_path: Path) -> None:
    model, units = gpt(), "blocks.0.attention:0-3"

    def begun() -> Iterator[Extraction]:
        parts = extract_stream(model, drawn(20), tmp_path, 5, 7, part=8, progress=False)
        for _ in range(first):
            next(parts)
        return parts

    with mv.ablate(model, units):
        inside = begun()
    with pytest.raises(RuntimeError, match=f"not as it was .* part {first} is due: .* ablated"):
        next(inside)
    assert len(list(tmp_path.iterdir())) == first
    for path in tmp_path.iterdir():
        path.unlink()
    outside = begun()
    with mv.ablate(model, units), pytest.raises(RuntimeError, match="not as it was"):
        next(outside)


@pytest.mark.parametrize(
    ("passages", "given", "sentence"),
    [
        (iter([[1]]), {}, "has no slices"),
        ({"a": 1}, {}, "passages is dict, which has no slices"),
        ([], {}, "passages is empty"),
        (drawn(3), {"ids": ["a"]}, "ids holds 1 names for 3"),
        (drawn(3)[:, :9], {}, "fewer than a prompt of 5"),
        (drawn(3), {"part": 0}, "part is 0"),
    ],
)
def test_bad_input_gets_one_sentence(
    passages: Any, given: Any, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        stream(passages, tmp_path, **given)


def test_an_extraction_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    result = extract(gpt(), drawn(6), 5, 7, ids=[*"abcdef"], progress=False)
    result.save(tmp_path / "scores.safetensors")
    again = Extraction.load(tmp_path / "scores.safetensors")
    assert again.ids == result.ids
    assert (again.prompt, again.continuation) == (5, 7)
    assert torch.equal(again.said, result.said) and torch.equal(again.passages, result.passages)
    assert again.table().equals(result.table())
    content = bytearray((tmp_path / "scores.safetensors").read_bytes())
    content[-3] ^= 1
    (tmp_path / "scores.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="altered after it was written"):
        Extraction.load(tmp_path / "scores.safetensors")
    with pytest.raises(FileNotFoundError):
        Extraction.load(tmp_path / "nothing")
