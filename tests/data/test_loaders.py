"""CIFAR-10 from each of its layouts, CIFAR-10N labels, and files that must not be trusted."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from memviz.data.loaders import CIFAR10N_KINDS, load_cifar10, load_cifar10n


def pixels(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.RandomState(seed)
    return draw.randint(0, 256, (n, 3, 32, 32)).astype(np.uint8), draw.randint(0, 10, n)


def write_pickle(path: Path, images: np.ndarray, labels: np.ndarray, protocol: int = 2) -> None:
    batch = {"data": images.reshape(len(images), -1), "labels": labels.tolist(), "filenames": []}
    path.write_bytes(pickle.dumps(batch, protocol))


def write_binary(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    rows = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(len(images), -1)], 1)
    path.with_suffix(".bin").write_bytes(rows.tobytes())


def write_parquet(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet
    from PIL import Image

    files = []
    for image in images.transpose(0, 2, 3, 1):
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        files.append({"bytes": out.getvalue(), "path": None})
    name = "test-0" if "test" in path.name else f"train-{path.name[-1]}"
    table = pa.table({"img": files, "label": labels})
    parquet.write_table(table, path.with_name(f"{name}.parquet"))


@pytest.mark.parametrize("write", [write_pickle, write_binary, write_parquet])
@pytest.mark.parametrize("below", ["", "cifar-10"])
def test_each_layout_gives_the_images_in_order(tmp_path: Path, write: object, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    parts = [pixels(4, seed) for seed in range(3)]
    for name, part in zip(("data_batch_1", "data_batch_2", "test_batch"), parts, strict=True):
        write(folder / name, *part)
    found = load_cifar10(tmp_path)
    images = np.concatenate([parts[0][0], parts[1][0]]).transpose(0, 2, 3, 1)
    assert np.array_equal(found.images, images)
    assert found.labels.tolist() == [*parts[0][1], *parts[1][1]]
    assert np.array_equal(found.test_images, parts[2][0].transpose(0, 2, 3, 1))
    assert found.labels.dtype == found.test_labels.dtype == torch.int64


def test_inputs_are_normalized_by_the_training_images(tmp_path: Path) -> None:
    for seed, name in enumerate(("data_batch_1", "test_batch")):
        write_pickle(tmp_path / name, *pixels(6, seed))
    found = load_cifar10(tmp_path)
    inputs = found.inputs()
    assert inputs.shape == (6, 3, 32, 32)
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(inputs.std((0, 2, 3)), torch.ones(3), atol=1e-5)
    mean = found.images.float().mean((0, 1, 2))
    std = found.images.float().std((0, 1, 2))
    by_hand = (found.test_images[2, 5, 7].float() - mean) / std
    assert torch.allclose(found.inputs(test=True)[2, :, 5, 7], by_hand)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_pickle_that_names_anything_but_arrays_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pickle(tmp_path / "test_batch", *pixels(2, 0))
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Evil(), "labels": [0]}))
    with pytest.raises(ValueError, match=r"can't be read .* names (posix|nt)\.system"):
        load_cifar10(tmp_path)
    torch.save({"aggre_label": Evil()}, tmp_path / "labels.pt")
    with pytest.raises(ValueError, match="can't be read as CIFAR-10N labels"):
        load_cifar10n(tmp_path / "labels.pt")
    np.savez(tmp_path / "labels.npz", aggre_label=np.array([Evil()], object))
    with pytest.raises(ValueError, match="can't be read as CIFAR-10N labels"):
        load_cifar10n(tmp_path / "labels.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_the_five_human_label_sets(tmp_path: Path, suffix: str) -> None:
    names = ("aggre_label", "random_label1", "random_label2", "random_label3", "worse_label")
    arrays = {name: pixels(7, seed)[1] for seed, name in enumerate(names)}
    arrays["clean_label"] = np.zeros(7, np.int64)
    path = tmp_path / f"CIFAR-10_human{suffix}"
    if suffix == ".pt":
        torch.save(arrays, path)
    else:
        np.savez(path, **arrays)
    for kind, name in zip(CIFAR10N_KINDS, names, strict=True):
        assert load_cifar10n(path, kind).tolist() == arrays[name].tolist()
    with pytest.raises(ValueError, match="no label set 'best'; choose from aggre, random1"):
        load_cifar10n(path, "best")


def test_damaged_files_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CIFAR-10 in .*; give the folder"):
        load_cifar10(tmp_path)
    write_pickle(tmp_path / "data_batch_1", *pixels(2, 0))
    with pytest.raises(FileNotFoundError, match="no CIFAR-10 in"):  # no test batch
        load_cifar10(tmp_path)
    write_pickle(tmp_path / "test_batch", *pixels(2, 0))
    whole = (tmp_path / "data_batch_1").read_bytes()
    (tmp_path / "data_batch_1").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="data_batch_1' can't be read as a batch of CIFAR-10"):
        load_cifar10(tmp_path)
    images, _ = pixels(2, 0)
    write_pickle(tmp_path / "data_batch_1", images, np.array([3, 10]))
    with pytest.raises(ValueError, match="not images of 32x32 in ten classes"):
        load_cifar10(tmp_path)
    binary = tmp_path / "binary"
    binary.mkdir()
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (binary / name).write_bytes(bytes(3000))
    with pytest.raises(
        ValueError, match="batch of CIFAR-10 .its 3000 bytes are not a multiple of 3073"
    ):
        load_cifar10(binary)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_cifar10n(tmp_path / "none.pt")
    (tmp_path / "labels.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="can't be read as CIFAR-10N labels"):
        load_cifar10n(tmp_path / "labels.pt")


def test_files_that_are_none(tmp_path: Path) -> None:
    write_pickle(tmp_path / "data_batch_1", *pixels(2, 0))
    os.mkfifo(tmp_path / "test_batch")
    with pytest.raises(ValueError, match="test_batch' is a pipe, not a file"):
        load_cifar10(tmp_path)
    with pytest.raises(ValueError, match="is a pipe, not a file"):
        load_cifar10n(tmp_path / "test_batch")
    for wrong in (np.array([0.5]), np.array([[1]]), np.array([10]), np.array(["a"])):
        np.savez(tmp_path / "labels.npz", aggre_label=wrong)
        with pytest.raises(ValueError, match="not labels of ten classes; download it again"):
            load_cifar10n(tmp_path / "labels.npz")


@pytest.mark.parametrize("kind", ["pickle", "parquet", "npz", "pt"])
def test_a_damaged_file_gets_one_sentence(kind: str, tmp_path: Path) -> None:
    images, labels = pixels(2, 0)
    file = tmp_path / f"n.{kind}"
    if kind == "pickle":
        file = tmp_path / "test_batch"
        for name in ("data_batch_1", "test_batch"):
            write_pickle(tmp_path / name, images, labels)
    elif kind == "parquet":
        for name in ("data_batch_1", "test_batch"):
            write_parquet(tmp_path / name, images, labels)
        (file,) = tmp_path.glob("test*")
    elif kind == "npz":
        np.savez(file, aggre_label=labels)
    else:
        torch.save({"aggre_label": labels}, file)
    read = load_cifar10n if kind in ("npz", "pt") else load_cifar10
    where = file if kind in ("npz", "pt") else tmp_path
    content = file.read_bytes()
    random = np.random.default_rng(0)
    for round_ in range(60):
        damaged = bytearray(content)
        if round_ % 3:
            place = int(random.integers(len(content)))
            damaged[place] ^= 1 << int(random.integers(8))
        else:
            damaged = damaged[: int(random.integers(len(content)))]
        file.write_bytes(damaged)
        told = ""
        try:
            read(where)
        except ValueError as error:
            told = str(error)
        assert not told or (file.name in told and len(told) < 600)
