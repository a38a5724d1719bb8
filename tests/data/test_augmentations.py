"""Augmentations draw from the generator that they are given, and do what they say."""

import pytest
import torch
from torch import Tensor

from memviz.data.augmentations import CropAndColour, ShiftAndNoise


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augment", [ShiftAndNoise(), CropAndColour()])
def test_the_generator_alone_draws(augment: ShiftAndNoise | CropAndColour) -> None:
    images = torch.rand(5, 3, 8, 8, generator=drawn(0))
    kept, state = images.clone(), torch.get_rng_state()
    one, again, other = (augment(images, drawn(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(images, kept)
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == images.shape and one.isfinite().all()
    copies = augment(images[:1].repeat(5, 1, 1, 1), drawn(0))
    assert len({tuple(row.flatten().tolist()) for row in copies}) == 5


def test_shifts_are_shifts_with_nothing_from_outside() -> None:
    images = torch.zeros(40, 1, 6, 6)
    images[:, 0, 2, 3] = 1.0
    images[:, 0, 0, 0] = 2.0
    moved = ShiftAndNoise(pixels=1, noise=0.0)(images, drawn(0))
    places = {tuple((row[0] == 1).nonzero()[0].tolist()) for row in moved}
    assert places == {(y, x) for y in (1, 2, 3) for x in (2, 3, 4)}
    assert set(moved.unique().tolist()) == {0.0, 1.0, 2.0}
    noisy = ShiftAndNoise(pixels=0, noise=0.5)(torch.zeros(50, 1, 9, 9), drawn(0))
    assert noisy.std() == pytest.approx(0.5, abs=0.02)


def test_crops_keep_a_constant_picture_and_stay_inside() -> None:
    plain = CropAndColour(smallest=0.3, colour=0.0)
    flat = torch.full((20, 1, 12, 12), 0.7)  # of one channel grey changes nothing
    torch.testing.assert_close(plain(flat, drawn(0)), flat)
    ramp = torch.linspace(0, 1, 12).expand(200, 1, 12, 12)
    found = plain(ramp, drawn(0))
    assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6
    rising = found[:, 0, 0, -1] > found[:, 0, 0, 0]
    assert 0.35 < rising.float().mean() < 0.65  # mirrored half the time
    spans = (found[:, 0, 0, -1] - found[:, 0, 0, 0]).abs()
    assert spans.min() >= 0.3**0.5 * (3 / 4) ** 0.5 * 11 / 12 - 0.12 and spans.max() <= 1


def test_colours_change_and_a_fifth_is_grey() -> None:
    images = torch.rand(1000, 3, 4, 4, generator=drawn(3))
    found = CropAndColour(smallest=1.0)(images, drawn(0))
    grey = ((found[:, 0] - found[:, 1]).abs().amax((1, 2)) < 1e-6).float().mean()
    assert grey.item() == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("images", [torch.zeros(3, 8, 8), torch.zeros(2, 1, 8, 8).long()])
def test_what_is_no_batch_of_images_is_refused(images: Tensor) -> None:
    for augment in (ShiftAndNoise(), CropAndColour()):
        with pytest.raises(ValueError, match=r"give floats \[n, channels, height, width\]"):
            augment(images, drawn(0))
