"""CIFAR-10 and the human labels of CIFAR-10N, read from local files."""

from __future__ import annotations

import codecs
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import check_file, coded, listed, quoted

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR10N_KINDS = ("aggre", "random1", "random2", "random3", "worse")
_NEEDED = (
    "give the folder of CIFAR-10 as python pickles (data_batch_1 ... test_batch), as binary files "
    "(data_batch_1.bin ... test_batch.bin) or as Parquet (train-*.parquet, test-*.parquet); "
    "they are at https://www.cs.toronto.edu/~kriz/cifar.html and at "
    "https://huggingface.co/datasets/uoft-cs/cifar10."
)
# All that a pickled NumPy array needs, under its names in NumPy 1 and 2; nothing else that a pickle
# names is ever called, so a hostile file can't run code.
_MAKE_ARRAY = np.empty(0).__reduce__()[0]
_ALLOWED: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _MAKE_ARRAY,
    "numpy._core.multiarray._reconstruct": _MAKE_ARRAY,
    "_codecs.encode": codecs.encode,
}
_PIXELS = 3 * 32 * 32
_LARGEST = 1 << 31  # bytes
_Table = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Cifar10:
    """CIFAR-10, or a part of it, in the order of the files.

    Attributes
    ----------
    images, test_images : uint8 ``[n, 32, 32, 3]``
    labels, test_labels : int64 ``[n]``
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def inputs(self, *, test: bool = False) -> Tensor:
        """Float32 ``[n, 3, 32, 32]``, standardized per channel by the training images."""
        training = self.images.float()
        mean, std = training.mean((0, 1, 2)), training.std((0, 1, 2))
        images = self.test_images if test else self.images
        return ((images.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def load_cifar10(folder: str | Path) -> Cifar10:
    """Read CIFAR-10 from a folder (or a subfolder) of pickles, binary or Parquet files.

    Nothing is downloaded, and nothing in a pickle is executed: pickles that hold more than arrays,
    numbers and text are refused.

    Raises
    ------
    FileNotFoundError
        If the folder holds none of the three layouts; the message says what is needed.
    ValueError
        If a file is truncated, altered or of another kind.

    Examples
    --------
    >>> load_cifar10("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: there is no CIFAR-10 in 'nowhere'; give the folder of CIFAR-10 as ...
    """
    root = Path(folder)
    readers = (
        ("data_batch_[1-5]", "test_batch", _read_pickle),
        ("data_batch_[1-5].bin", "test_batch.bin", _read_binary),
        ("train-*.parquet", "test-*.parquet", _read_parquet),
    )
    depths = ("", "*/") if root.is_dir() else ()
    for train, test, read in readers:
        for depth in depths:
            parts = [sorted(root.glob(depth + pattern)) for pattern in (train, test)]
            if all(parts):
                images, labels, test_images, test_labels = (
                    torch.from_numpy(np.concatenate(table))
                    for paths in parts
                    for table in zip(*(_part(path, read) for path in paths), strict=True)
                )
                return Cifar10(images, labels, test_images, test_labels)
    raise FileNotFoundError(f"there is no CIFAR-10 in {quoted(str(folder))}; {_NEEDED}")


def load_cifar10n(path: str | Path, kind: str = "aggre") -> Tensor:
    """Read one of the five human label sets of CIFAR-10N for the training images, int64 ``[n]``.

    Parameters
    ----------
    path : str or Path
        ``CIFAR-10_human.pt`` as released (github.com/UCSC-REAL/cifar-10-100n, Wei et al. 2022), or
        an ``.npz`` file of the same arrays. Nothing in either is executed.
    kind : {"aggre", "random1", "random2", "random3", "worse"}
        In these, about 9, 17, 18, 18 and 40 % of the labels are wrong.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it does not hold these labels.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file {quoted(str(path))}; give CIFAR-10_human.pt from "
            "github.com/UCSC-REAL/cifar-10-100n, or an .npz file of its arrays."
        )
    check_file(path, _LARGEST)
    try:
        if path.suffix == ".npz":
            # Opened here: NumPy leaves a damaged archive open.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            numbers = [type(np.dtype(kind)) for kind in (np.int64, np.int32, np.uint8)]
            names = [(made, name) for name, made in _ALLOWED.items()]
            with torch.serialization.safe_globals([*names, *numbers]):
                arrays = dict(torch.load(path, weights_only=True))
    except Exception as error:  # on a damaged file pickles and archives raise almost anything
        raise ValueError(
            coded(
                "E33", f"{quoted(str(path))} can't be read as CIFAR-10N labels ({_reason(error)})."
            )
        ) from error
    # The release calls them aggre_label, random_label1, worse_label.
    released = f"random_label{kind[-1]}" if kind.startswith("random") else f"{kind}_label"
    named = [name for name in (released, f"human_{kind}") if name in arrays]
    if kind not in CIFAR10N_KINDS or not named:
        raise ValueError(
            f"{quoted(str(path))} has no label set {quoted(kind)}; choose from "
            f"{', '.join(CIFAR10N_KINDS)}. The file holds {listed(map(str, arrays))}."
        )
    labels = np.asarray(arrays[named[0]])
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or ((labels < 0) | (labels > 9)).any():
        raise ValueError(
            f"{quoted(str(path))} holds {labels.dtype} of shape {labels.shape} as "
            f"{named[0]!r}, not labels of ten classes; download it again."
        )
    return torch.from_numpy(labels.astype(np.int64))


def _reason(error: Exception) -> str:
    # torch explains at length, in several lines, why it reads nothing but weights.
    return listed([" ".join(str(error).split()) or type(error).__name__])


def _part(path: Path, read: Callable[[Path], _Table]) -> _Table:
    """Images and labels of one file, checked."""
    check_file(path, _LARGEST)
    try:
        pixels, labels = read(path)
    except Exception as error:  # on a damaged file pickles and images raise almost anything
        raise ValueError(
            coded(
                "E33",
                f"{quoted(str(path))} can't be read as a batch of CIFAR-10 ({_reason(error)}).",
            )
        ) from error
    return _checked(path, pixels, labels)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is not part of an array"
            ) from None


def _read_pickle(path: Path) -> _Table:
    with path.open("rb") as file:
        batch = _ArraysOnly(file, encoding="latin1").load()
    return np.asarray(batch["data"]), np.asarray(batch["labels"])


def _read_binary(path: Path) -> _Table:
    rows = np.fromfile(path, np.uint8)
    if len(rows) % (_PIXELS + 1):
        raise ValueError(
            f"its {len(rows)} bytes are not a multiple of {_PIXELS + 1}, the bytes per image"
        )
    table = rows.reshape(-1, _PIXELS + 1)
    return table[:, 1:], table[:, 0]


def _read_parquet(path: Path) -> _Table:
    import pyarrow.parquet as parquet
    from PIL import Image

    table = parquet.read_table(path)
    image = next((name for name in ("img", "image") if name in table.column_names), None)
    if image is None or "label" not in table.column_names:
        raise ValueError(
            f"it has the columns {', '.join(table.column_names)}, and must have img and label"
        )
    files = [cell["bytes"] for cell in table[image].to_pylist()]
    pixels = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return np.stack(pixels).transpose(0, 3, 1, 2), table["label"].to_numpy()


def _checked(path: Path, pixels: np.ndarray, labels: np.ndarray) -> _Table:
    """Images ``[n, 32, 32, 3]`` and labels, once they are known to be CIFAR-10's."""
    are_labels = labels.ndim == 1 and labels.dtype.kind in "iu" and len(labels)
    fits = are_labels and pixels.dtype == np.uint8 and pixels.size == len(labels) * _PIXELS
    if not fits or labels.min() < 0 or labels.max() > 9:
        raise ValueError(
            f"{quoted(str(path))} holds {pixels.dtype} pixels of shape {pixels.shape} and "
            f"{labels.size} labels, not images of 32x32 in ten classes; download it again."
        )
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)
