"""Augmentations of whole batches that draw from a generator they are given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad


@dataclass(frozen=True)
class ShiftAndNoise:
    """Shift each image by up to ``pixels`` in both directions and add normal noise.

    Parameters
    ----------
    pixels : the largest shift; pixels that move in are 0.
    noise : standard deviation, in the units of the images.

    Examples
    --------
    >>> augment = ShiftAndNoise(pixels=1, noise=0.1)
    >>> augment(torch.zeros(5, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([5, 1, 8, 8])
    """

    pixels: int = 1
    noise: float = 0.1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images ``[n, channels, height, width]``, each shifted and made noisy independently."""
        check_images(images)
        n, _, height, width = images.shape
        # Drawn on the CPU, so that every device gets the same augmentations.
        by = torch.randint(2 * self.pixels + 1, (2, n), generator=generator).to(images.device)
        rows = by[0, :, None] + torch.arange(height, device=images.device)
        columns = by[1, :, None] + torch.arange(width, device=images.device)
        framed = pad(images, [self.pixels] * 4).movedim(1, -1)
        each = torch.arange(n, device=images.device)[:, None, None]
        shifted = framed[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        drawn = torch.randn(images.shape, generator=generator).to(images.device)
        return shifted + self.noise * drawn


@dataclass(frozen=True)
class CropAndColour:
    """SimCLR's augmentations for small colour images: crop and resize, flip, colour jitter, grey.

    Brightness, contrast and saturation are multiplied by up to 1 ± ``colour`` with probability
    0.8; an image is made grey with probability 0.2 (Chen et al. 2020, arXiv:2002.05709,
    appendix A, without the change of hue and the blur). Images may have any scale; contrast is
    changed around an image's own mean.

    Parameters
    ----------
    smallest : the smallest share of the area that a crop keeps.
    colour : strength of the colour jitter; 0 for none.

    Examples
    --------
    >>> CropAndColour()(torch.zeros(5, 3, 32, 32), torch.Generator().manual_seed(0)).shape
    torch.Size([5, 3, 32, 32])
    """

    smallest: float = 0.2
    colour: float = 0.4

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images ``[n, channels, height, width]``, each augmented independently."""
        check_images(images)
        return self._coloured(self._cropped(images, generator), generator)

    def _cropped(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A crop of each image, flipped or not, resampled to the image's own size."""
        n, drawn = len(images), torch.rand(5, len(images), generator=generator)
        area = self.smallest + (1 - self.smallest) * drawn[0]
        # Aspect ratios of 3:4 to 4:3, as often tall as wide; clamped to stay inside the image.
        stretch = (4 / 3) ** (drawn[1] - 0.5)
        sides = torch.stack([area.sqrt() * stretch, area.sqrt() / stretch]).clamp(max=1)
        middles = (2 * drawn[2:4] - 1) * (1 - sides)
        mirror = torch.where(drawn[4] < 0.5, -1.0, 1.0)
        affine = torch.zeros(n, 2, 3)
        affine[:, 0, 0], affine[:, 0, 2] = sides[0] * mirror, middles[0]
        affine[:, 1, 1], affine[:, 1, 2] = sides[1], middles[1]
        grid = affine_grid(affine.to(images), list(images.shape), align_corners=False)
        return grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _coloured(self, images: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(5, len(images), 1, 1, 1, generator=generator).to(images.device)
        strength = self.colour * (drawn[0] < 0.8)
        brightness, contrast, saturation = 1 + strength * (2 * drawn[1:4] - 1)
        images = images * brightness
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + contrast * (images - mean)
        grey = images.mean(1, keepdim=True)
        saturation = torch.where(drawn[4] < 0.2, 0.0, saturation)
        return grey + saturation * (images - grey)


def check_images(images: Tensor) -> None:
    """Refuse anything but a batch of images.

    Raises
    ------
    ValueError
        If ``images`` are not floats of four dimensions.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"images is {images.dtype} of shape {list(images.shape)}; give floats "
            "[n, channels, height, width]."
        )
