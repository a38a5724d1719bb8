"""Pictures of a study's examples, and the sprite sheets that carry them to the browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from memviz.study import DatasetInputs, Study

SHEET = 512  # tiles per message, at most
_BYTES = 4_000_000  # per message, at most, before compression
COLUMNS = 32
_SIDE = 64  # px; thumbnails are not shown larger
_SAMPLE = 512  # examples that set the grey levels
_READ = 64  # the same, where each must be read from a dataset
_SHEETS = 8  # sheets that are sent before anyone asks, at most
_AT_ONCE = 64  # pictures in memory at full size
_LARGEST = 512  # px; opened pictures are not shown larger


@dataclass(frozen=True)
class Pictures:
    """How a study's examples are shown.

    ``ink``: the images are bright strokes on an empty ground, drawn in the theme's colours;
    photographs are drawn as they are. ``own``: they are the pictures of the study's dataset, as
    they were before any transform.
    """

    study: Study
    low: float
    high: float
    shape: tuple[int, int, int]
    ink: bool
    own: bool = False

    @classmethod
    def of(cls, study: Study) -> Pictures:
        """Choose range and shape from the study's images, or from a sample of its inputs."""
        few = torch.arange(min(_SAMPLE, len(study)))
        if study.images is None and isinstance(study.inputs, DatasetInputs):
            few = torch.linspace(0, len(study) - 1, min(_READ, len(study))).long()
            found = study.inputs.pictures(few)
            if found is not None:
                shape = _common_shape(found)
                sample = np.stack([_fitted(picture, shape) for picture in found])
                return cls(study, 0.0, 255.0, shape, _is_ink(sample, 0.0, 255.0), own=True)
        sample = _raw(study, few)
        low, high = (0.0, 255.0) if sample.dtype == np.uint8 else _range(sample)
        shape = (sample.shape[1], sample.shape[2], sample.shape[3])
        return cls(study, low, high, shape, _is_ink(sample, low, high))

    def full(self, examples: Tensor) -> np.ndarray:
        """Pictures of some examples, uint8 ``[n, h, w, channels]``."""
        if self.own:
            assert isinstance(self.study.inputs, DatasetInputs)
            found = self.study.inputs.pictures(examples)
            if found is None:
                return np.zeros((len(examples), *self.shape), np.uint8)
            return np.stack([_fitted(picture, self.shape) for picture in found])
        raw = _raw(self.study, examples)
        return np.asarray(raw) if raw.dtype == np.uint8 else _grey(raw, self.low, self.high)

    def of_inputs(self, inputs: Tensor) -> np.ndarray:
        """Pictures of inputs that are no examples, such as generated ones, uint8 as ``full``."""
        ends = self.low, self.high
        if self.study.images is not None:  # whose levels need not be those of the inputs
            sample = torch.arange(min(_SAMPLE, len(self.study)))
            ends = _range(_as_images(_first(self.study, sample)))
        return _grey(_as_images(inputs), *ends)

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a thumbnail."""
        factor = max(1.0, max(self.shape[:2]) / _SIDE)
        return max(1, round(self.shape[0] / factor)), max(1, round(self.shape[1] / factor))

    @property
    def per_sheet(self) -> int:
        """Tiles per sheet, in whole rows."""
        height, width = self.tile
        room = _BYTES // (height * width * self.shape[2] * COLUMNS)
        return min(SHEET, max(1, room) * COLUMNS)

    @property
    def is_large(self) -> bool:
        """Whether a view could not hold the thumbnails of all examples."""
        return -(-len(self.study) // self.per_sheet) > _SHEETS

    @property
    def on_demand(self) -> bool:
        """Whether a view is sent only the thumbnails that it asks for: of many, or read slowly."""
        return self.is_large or isinstance(self.study.inputs, DatasetInputs)

    def sheet(self, examples: Tensor) -> bytes:
        """PNG of the thumbnails of some examples, at most ``per_sheet``, in rows."""
        height, width = self.tile
        rows = -(-len(examples) // COLUMNS)
        grey = self.shape[2] == 1
        sheet = Image.new("L" if grey else "RGB", (COLUMNS * width, rows * height))
        places = ((j % COLUMNS * width, j // COLUMNS * height) for j in range(len(examples)))
        for part in examples.split(_AT_ONCE):
            for picture in self.full(part):
                tile = Image.fromarray(picture[..., 0] if grey else picture)
                if tile.size != (width, height):
                    tile = tile.resize((width, height), Image.Resampling.BOX)
                sheet.paste(tile, next(places))
        out = io.BytesIO()
        sheet.save(out, "PNG")
        return out.getvalue()


def _raw(study: Study, examples: Tensor) -> np.ndarray:
    """``[n, h, w, channels]``; inputs that are not images become a near-square of values."""
    if study.images is not None:
        images = np.asarray(np.asarray(study.images)[examples.numpy()])
        return images[..., None] if images.ndim == 3 else images
    return _as_images(_first(study, examples))


def _first(study: Study, examples: Tensor) -> Tensor:
    """The inputs, or the first of several."""
    inputs = study.rows(examples)
    return inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))


def _as_images(inputs: Tensor) -> np.ndarray:
    values = inputs.detach().cpu().float().numpy()
    if values.ndim == 4 and values.shape[1] in (1, 3):
        return np.moveaxis(values, 1, -1)
    flat = values.reshape(len(values), -1)[:, :4096]
    side = int(np.ceil(np.sqrt(flat.shape[1])))
    rows = -(-flat.shape[1] // side)
    padded = np.zeros((len(flat), rows * side), np.float32)
    padded[:, : flat.shape[1]] = flat
    return np.asarray(padded.reshape(len(flat), rows, side, 1))


def _common_shape(pictures: Sequence[Image.Image]) -> tuple[int, int, int]:
    """Height and width of the first, no longer than a view is wide, and channels for all."""
    width, height = pictures[0].size
    factor = max(1.0, max(width, height) / _LARGEST)
    grey = all(picture.mode in ("1", "L") for picture in pictures)
    return max(1, round(height / factor)), max(1, round(width / factor)), 1 if grey else 3


def _fitted(picture: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """A picture ``[h, w, channels]`` of this shape, whole, with empty margins."""
    height, width, channels = shape
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = ImageOps.pad(picture, (width, height), Image.Resampling.BOX)
    pixels = np.asarray(picture)
    return pixels[..., None] if channels == 1 else pixels


def _is_ink(sample: np.ndarray, low: float, high: float) -> bool:
    empty = float((sample <= low + 0.02 * (high - low)).mean())
    return sample.shape[3] == 1 and empty > 0.3


def _grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (values - low) / max(high - low, 1e-12)
    return np.asarray((scaled.clip(0, 1) * 255).round(), np.uint8)


def _range(sample: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(sample, [0.1, 99.9])
    return float(low), float(high)
