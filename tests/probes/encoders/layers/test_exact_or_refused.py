"""SSLMem and LayerMem: of features, of clean images, in double precision; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.data.subsets import Subsets
from memviz.probes.encoders import layer_mem, layer_mem_from_features, pooled, ssl_mem
from memviz.probes.encoders.layers import PathFeatures, views

SETS = Subsets(range(4), range(4, 7), range(7, 10), range(10, 12))


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def net(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(48, 5),
        ).eval()  # fmt: skip


def pictures(n: int = 12) -> Tensor:
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def features(model: nn.Sequential, drawn: Tensor) -> dict[str, Tensor]:
    """By plain PyTorch: after each ReLU, and at the end, ``[images, views, ...]``."""
    with torch.no_grad():
        flat = drawn.flatten(0, 1)
        by_layer = {"0": model[:2](flat), "2": model[:4](flat), "5": model(flat)}
    return {name: rows.unflatten(0, drawn.shape[:2]) for name, rows in by_layer.items()}


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("compare", ["views", "clean"])
def test_layer_mem_of_features_is_that_of_the_encoders(compare: Any, unit_norm: bool) -> None:
    f, g, images = net(0), net(1), pictures()
    wanted = layer_mem(f, g, images, noise, SETS, augmentations=3, compare=compare,
                       unit_norm=unit_norm, progress=False)  # fmt: skip
    drawn = views(images, noise, 3, torch.arange(12))
    if compare == "clean":
        drawn = torch.cat([images[:, None], drawn], 1)
    found = layer_mem_from_features(features(f, drawn), features(g, drawn), SETS, compare=compare,
                                    unit_norm=unit_norm)  # fmt: skip
    assert found.names == wanted.names == ["0", "2", "5"] and found.measure == wanted.measure
    assert [p.after for p in found.points] == [None, "0", "2"]
    for name in wanted.values:
        np.testing.assert_allclose(found.values[name], wanted.values[name], atol=1e-5)
        np.testing.assert_allclose(found.errors[name], wanted.errors[name], atol=1e-5)
    assert pooled([found, wanted]).pairs == 2 and len(found.plot().axes) == 2


def test_a_slow_version_of_clean_against_views() -> None:
    f, g, images = net(0), net(1), pictures()
    scores = ssl_mem(f, g, images, noise, augmentations=4, compare="clean", progress=False)
    drawn = views(images, noise, 4, torch.arange(12))
    for image in range(12):
        distances = []
        for model in (f, g):
            with torch.no_grad():
                clean = F.normalize(model(images[image][None])[0].double(), dim=0)
                rows = [F.normalize(model(v[None])[0].double(), dim=0) for v in drawn[image]]
            distances.append(np.mean([float((row - clean).norm()) for row in rows]))
        wanted = (distances[1] - distances[0]) / sum(distances)
        assert scores.values[image] == pytest.approx(wanted, abs=1e-6)
    assert "images against their views" in scores.measure
    one = ssl_mem(f, g, images, noise, augmentations=1, compare="clean", progress=False)
    assert np.isfinite(one.values).all()


def test_double_precision_stays() -> None:
    f, g, images = net(0).double(), net(1).double(), pictures().double()

    def faint(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + 1e-9 * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    found = layer_mem(f, g, images, faint, SETS, augmentations=3, progress=False)
    drawn = views(images, faint, 3, torch.arange(12))
    wanted = layer_mem_from_features(features(f, drawn), features(g, drawn), SETS)
    for name in wanted.values:
        assert (wanted.values[name] != 0).all()  # in single precision all views are the same
        np.testing.assert_allclose(found.values[name], wanted.values[name], rtol=1e-4)
    scores = ssl_mem(f, g, images, faint, SETS, augmentations=3, progress=False)
    assert scores.values.mean() == pytest.approx(wanted.mean("S_C")[-1], rel=1e-4)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_features_of_any_length_are_scaled_to_1(scale: float) -> None:
    drawn = views(pictures(), noise, 3, torch.arange(12))
    one, other = features(net(0), drawn), features(net(1), drawn)
    wanted = layer_mem_from_features(one, other, SETS)
    scaled = {name: scale * rows.double() for name, rows in one.items()}
    found = layer_mem_from_features(scaled, other, SETS)
    np.testing.assert_allclose(found.mean("S_C"), wanted.mean("S_C"), rtol=1e-9)


class Changed(nn.Module):
    def __init__(self, change: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 9), nn.Linear(9, 2)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.second(self.change(torch.relu(self.first(x))))


def by_place(x: Tensor) -> Tensor:
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: F.dropout(x, 0.4), "the model's forward pass is random"),
        (lambda x: x * torch.from_numpy(np.random.default_rng().random(x.shape)).float(),
         "two calls of the model on the same examples gave different"),
        (lambda x: x - x.mean(0), "depend on the other images of its batch"),
        (by_place, "depend on the other images of its batch, or on its place"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", [ssl_mem, layer_mem])
def test_encoders_that_are_random_or_couple_images_are_refused(
    call: Any, change: Any, words: str
) -> None:
    images = torch.rand(12, 3)
    images[1] = images[0]  # twins would hide what couples them
    encoder, plain = Changed(change).eval(), Changed(lambda x: x).eval()
    state = torch.get_rng_state()
    for pair in ((encoder, plain), (plain, encoder)):
        with pytest.raises(ValueError, match=words):
            call(*pair, images, noise, SETS, progress=False)
    assert call is ssl_mem or torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_features_that_are_no_numbers_are_refused(bad: float) -> None:
    images = torch.rand(12, 3)
    images[5, 0] = bad
    f, g = (nn.Sequential(nn.Linear(3, 4), nn.Identity()).eval() for _ in range(2))
    with pytest.raises(ValueError, match="the features of image 5 are NaN or infinite; leave"):
        ssl_mem(f, g, images, noise, SETS, progress=False)
    with pytest.raises(ValueError, match="the features of image 5 at '0' are NaN or infinite"):
        layer_mem(f, g, images, noise, SETS, progress=False)
    given = {"fc": images[:, None].repeat(1, 2, 1)}
    with pytest.raises(ValueError, match="the features of image 5 at 'fc' are NaN or infinite"):
        layer_mem_from_features(given, given, SETS)
    rest = Subsets(range(4), [4, 6], range(7, 10), range(10, 12))
    assert np.isfinite(ssl_mem(f, g, images, noise, rest, progress=False).values).all()


def test_bad_input_gets_one_sentence() -> None:
    images, f = torch.rand(12, 3), nn.Linear(3, 4).eval()
    with pytest.raises(ValueError, match="compare is 'both'; use 'views' or 'clean'"):
        ssl_mem(f, f, images, noise, compare="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="augmentations is 0"):
        ssl_mem(f, f, images, noise, augmentations=0, compare="clean")
    with pytest.raises(ValueError, match="compare='clean' needs an augment that keeps the shape"):
        ssl_mem(nn.Flatten().eval(), nn.Flatten().eval(), pictures(), lambda x, _: x[..., 1:, 1:],
                compare="clean")  # fmt: skip

    class Two(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(x), x

    with pytest.raises(ValueError, match=r"the encoder returns 2 tensors with a row per image"):
        ssl_mem(Two(3, 4).eval(), Two(3, 4).eval(), images, noise)
    with pytest.raises(ValueError, match="augment made other copies of example 0 on a second"):
        ssl_mem(f, f, images, lambda x, _: x + float(np.random.default_rng().random()))
    one = {"a": torch.rand(12, 2, 3)}
    for other in ({}, {"b": one["a"]}):
        with pytest.raises(ValueError, match="give both the same ones"):
            layer_mem_from_features(one, other, SETS)
    for other in ({"a": torch.rand(12, 2, 4)}, {"a": torch.rand(12, 1, 3)}):
        with pytest.raises(ValueError, match=r"features at 'a' have shape .* at least 2 views"):
            layer_mem_from_features(one, other, SETS)
    with pytest.raises(ValueError, match="the subsets name image 11, but there are 9 images"):
        layer_mem_from_features({"a": one["a"][:9]}, {"a": one["a"][:9]}, SETS)


def test_a_second_point_of_view_changes_no_features() -> None:
    """Features of an image are the same alone, in a batch and at another place."""
    images, model = pictures(), net(0)
    read = PathFeatures(model, images)
    whole, turned = read(images), read(images.flip(0))
    for name, rows in whole.items():
        torch.testing.assert_close(turned[name].flip(0), rows, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(read(images[3:4])[name], rows[3:4], rtol=1e-5, atol=1e-6)
