"""Embeddings: in batches, from disk only where model and data are the same, never a wrong one."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

import memviz as mv
from memviz import tensor_files
from memviz.engine.search import _embeddings, cached_embeddings, embed
from memviz.tensor_files import NotWritten, read_hashed, write_hashed


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


class Counted:
    """An encoder that knows how often it was called."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.calls = model, 0

    def __call__(self, batch: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.model(batch)
        return out


ITEMS = torch.arange(28.0).view(7, 4) / 10


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_batches_change_nothing(batch):
    model = network()
    encode = Counted(model)
    found = embed(encode, ITEMS, batch=batch)
    torch.testing.assert_close(found, model(ITEMS).detach())
    assert encode.calls == -(-7 // batch) and not found.requires_grad


def test_half_precision_comes_out_as_float32():
    assert embed(lambda rows: rows.bfloat16(), ITEMS).dtype == torch.float32


def test_float64_stays_float64(tmp_path: Path):
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(embed(lambda part: part / 3, rows, batch=2), rows / 3)
    model = nn.Linear(3, 2).double().eval()
    first = cached_embeddings(tmp_path, model, "rows", model, rows)
    assert first.dtype == torch.float64
    assert torch.equal(cached_embeddings(tmp_path, model, "rows", model, rows), first)


def test_the_second_time_comes_from_disk(tmp_path: Path):
    model = network()
    encode = Counted(model)
    first = cached_embeddings(tmp_path / "new", model, "tower", encode, ITEMS)
    again = cached_embeddings(tmp_path / "new", model, "tower", encode, ITEMS.clone())
    assert torch.equal(first, again) and encode.calls == 1
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".safetensors"]


def test_anything_else_is_embedded_anew(tmp_path: Path):
    model = network()
    encode = Counted(model)

    def found(**changes: object) -> Tensor:
        given = {"model": model, "name": "tower", "encode": encode, "items": ITEMS, **changes}
        return cached_embeddings(tmp_path, **given)  # type: ignore[arg-type]

    first, other = found(), network(1)
    assert not torch.equal(first, found(model=other, encode=other))
    assert found(items=ITEMS + 1).shape == first.shape and encode.calls == 2
    found(name="the other tower")
    assert encode.calls == 3
    # Of the same weights and another function between them.
    smooth = nn.Sequential(model[0], nn.GELU(), model[2]).eval()
    torch.testing.assert_close(found(model=smooth, encode=smooth), smooth(ITEMS).detach())
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    found()
    assert encode.calls == 4 and len(list(tmp_path.iterdir())) == 6


def test_an_ablated_model_is_neither_kept_nor_found(tmp_path: Path):
    model = network()
    plain = cached_embeddings(tmp_path, model, "tower", model, ITEMS)
    with mv.ablate(model, "0:0-5") as ablated:
        without = cached_embeddings(tmp_path, model, "tower", ablated, ITEMS)
    torch.testing.assert_close(without, model[2].bias.detach().expand(7, -1))
    handle = model[0].register_forward_hook(lambda _m, _i, out: out * 0)
    hooked = cached_embeddings(tmp_path, model, "tower", model, ITEMS)
    handle.remove()
    torch.testing.assert_close(hooked, without)
    assert torch.equal(cached_embeddings(tmp_path, model, "tower", model, ITEMS), plain)
    assert len(list(tmp_path.iterdir())) == 1


def test_texts_and_files_are_hashed_by_what_they_hold(tmp_path: Path):
    model, calls = network(), []

    def encode(items: list[object]) -> Tensor:
        calls.append(len(items))
        return torch.ones(len(items), 2)

    folder, file = tmp_path / "kept", tmp_path / "image"
    file.write_bytes(b"one")
    for items in (["a", "b"], ["ab", ""], ["a", "b"], [file], [file]):
        cached_embeddings(folder, model, "t", encode, items)
    assert calls == [2, 2, 1]
    file.write_bytes(b"two")
    cached_embeddings(folder, model, "t", encode, [file])
    assert calls == [2, 2, 1, 1]
    with pytest.raises(ValueError, match="items are list; to be cached they must be"):
        cached_embeddings(folder, model, "t", encode, [1, 2])


def test_a_damaged_file_is_refused(tmp_path: Path):
    model = network()
    cached_embeddings(tmp_path, model, "tower", model, ITEMS)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="altered after it was written"):
        cached_embeddings(tmp_path, model, "tower", model, ITEMS)


def test_an_interrupted_embedding_leaves_no_file(tmp_path: Path):
    def encode(batch: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_embeddings(tmp_path / "kept", network(), "tower", encode, ITEMS)
    assert not any((tmp_path / "kept").iterdir())


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda rows: rows[:, 0], r"the encoder returned \[2\]"),
        (lambda rows: rows.long(), "must return floats"),
        (lambda rows: [1], "the encoder returned list"),
        (lambda rows: rows[:1], "returned 1 rows for 2 items"),
        (lambda rows: rows.masked_fill(rows == 0.5, torch.nan), "NaN or infinity for item 1;"),
        (lambda rows: rows.masked_fill(rows == 1.6, torch.inf), "NaN or infinity for item 4;"),
        (lambda rows: rows @ rows, r"failed on items 0 to 1: RuntimeError: mat1 .*; give what it"),
    ],
)
def test_a_wrong_encoder_gets_one_sentence(encode, words):
    with pytest.raises(ValueError, match=words):
        embed(encode, ITEMS, batch=2)


def test_other_wrong_arguments(tmp_path: Path):
    with pytest.raises(ValueError, match="there are no items"):
        embed(network(), ITEMS[:0])
    with pytest.raises(ValueError, match="are a single number; give one row per item"):
        embed(network(), torch.tensor(1.0))
    with pytest.raises(ValueError, match="batch is 0"):
        embed(network(), ITEMS, batch=0)
    with pytest.raises(ValueError, match="train mode"):
        cached_embeddings(tmp_path, network().train(), "tower", network(), ITEMS)


def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    encode = Counted(model)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(OSError, match="can't be written"):
            cached_embeddings(folder, model, "tower", encode, ITEMS, batch=2)
    assert encode.calls == 0
    sizes: list[int] = []

    def full(folder: Path, size: int = 0) -> None:
        sizes.append(size)
        if size > 80:
            raise NotWritten(f"'{folder}' can't be written: No space left on device")

    monkeypatch.setattr(_embeddings, "check_writable", full)
    with pytest.raises(OSError, match="No space left on device"):
        cached_embeddings(tmp_path, model, "tower", encode, ITEMS, batch=2)
    assert encode.calls == 1 and sizes == [0, 7 * 3 * 4 + 4096]


def test_embeddings_that_cannot_be_kept_are_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()

    def fail(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", fail)
    with pytest.warns(UserWarning, match="the embeddings could not be kept: .* No space left on"):
        found = cached_embeddings(tmp_path, model, "tower", model, ITEMS, batch=2)
    torch.testing.assert_close(found, model(ITEMS).detach())
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_of_embeddings(tmp_path: Path) -> None:
    model = network()
    cached_embeddings(tmp_path, model, "tower", model, ITEMS)
    (path,) = tmp_path.iterdir()
    tensors, facts = read_hashed(path, "embeddings")
    for other in ({}, {"embeddings": tensors["embeddings"][1:]}):
        write_hashed(path, other, facts)
        with pytest.raises(ValueError, match="holds no embeddings of 7 items; delete it"):
            cached_embeddings(tmp_path, model, "tower", model, ITEMS)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a pipe, not a file"):
        cached_embeddings(tmp_path, model, "tower", model, ITEMS)
    with pytest.raises(ValueError, match="is a pipe, not a file"):
        cached_embeddings(tmp_path, model, "tower", model, [path])
    with pytest.raises(FileNotFoundError, match="there is no file"):
        cached_embeddings(tmp_path, model, "tower", model, [tmp_path / "none.png"])
