"""Pictures of a study's examples, and the sprite sheets that carry them to the browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from memviz.study import Study

SHEET = 512  # tiles per message, at most
_BYTES = 4_000_000  # per message, at most, before compression
COLUMNS = 32
_SIDE = 64  # px; thumbnails are not shown larger
_SAMPLE = 512  # examples that set the grey levels


@dataclass(frozen=True)
class Pictures:
    """How a study's examples are shown.

    ``ink``: the images are bright strokes on an empty ground, drawn in the theme's colours;
    photographs are drawn as they are.
    """

    study: Study
    low: float
    high: float
    shape: tuple[int, int, int]
    ink: bool

    @classmethod
    def of(cls, study: Study) -> Pictures:
        """Choose range and shape from the study's images, or from a sample of its inputs."""
        sample = _raw(study, torch.arange(min(_SAMPLE, len(study))))
        low, high = (0.0, 255.0) if sample.dtype == np.uint8 else _range(sample)
        empty = float((sample <= low + 0.02 * (high - low)).mean())
        shape = (sample.shape[1], sample.shape[2], sample.shape[3])
        return cls(study, low, high, shape, shape[2] == 1 and empty > 0.3)

    def full(self, examples: Tensor) -> np.ndarray:
        """Pictures of some examples, uint8 ``[n, h, w, channels]``."""
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

    def sheets(self) -> Iterator[tuple[int, int, bytes]]:
        """First example, count and PNG of each sprite sheet."""
        height, width = self.tile
        for first in range(0, len(self.study), self.per_sheet):
            examples = torch.arange(first, min(first + self.per_sheet, len(self.study)))
            rows = -(-len(examples) // COLUMNS)
            grey = self.shape[2] == 1
            sheet = Image.new("L" if grey else "RGB", (COLUMNS * width, rows * height))
            for j, picture in enumerate(self.full(examples)):
                tile = Image.fromarray(picture[..., 0] if grey else picture)
                if tile.size != (width, height):
                    tile = tile.resize((width, height), Image.Resampling.BOX)
                sheet.paste(tile, (j % COLUMNS * width, j // COLUMNS * height))
            out = io.BytesIO()
            sheet.save(out, "PNG")
            yield first, len(examples), out.getvalue()


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


def _grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (values - low) / max(high - low, 1e-12)
    return np.asarray((scaled.clip(0, 1) * 255).round(), np.uint8)


def _range(sample: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(sample, [0.1, 99.9])
    return float(low), float(high)
