"""SSLMem and LayerMem: identities, closed forms, planted memorization, the data path, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.data.subsets import Subsets
from memviz.probes.encoders.layers import (
    LayerMem,
    PathFeatures,
    alignment,
    layer_mem,
    pooled,
    ssl_mem,
    views,
)
from tests.support.traces import no_trace

SETS = Subsets(range(4), range(4, 7), range(7, 10), range(10, 12))


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.5 * torch.randn(x.shape, generator=generator)


def still(x: Tensor, _generator: torch.Generator) -> Tensor:
    return x


def conv_net(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3),
            nn.ReLU(), nn.Flatten(), nn.Linear(20, 6),
        ).eval()  # fmt: skip


def pictures(n: int = 12) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_same_encoder_has_0_everywhere() -> None:
    model = conv_net(0)
    found = layer_mem(model, model, pictures(), noise, SETS, progress=False)
    for values in found.values.values():
        np.testing.assert_array_equal(values, 0)
    assert (ssl_mem(model, model, pictures(), noise, progress=False).values == 0).all()


@pytest.mark.parametrize("unit_norm", [True, False])
def test_swapping_the_encoders_flips_the_sign_exactly(unit_norm: bool) -> None:
    f, g = conv_net(0), conv_net(1)
    one = ssl_mem(f, g, pictures(), noise, unit_norm=unit_norm).values
    np.testing.assert_array_equal(
        one, -ssl_mem(g, f, pictures(), noise, unit_norm=unit_norm).values
    )
    assert (abs(one) <= 1).all() and (one != 0).all()
    layers = layer_mem(f, g, pictures(), noise, SETS, unit_norm=unit_norm)
    swapped = layer_mem(g, f, pictures(), noise, SETS, unit_norm=unit_norm)
    np.testing.assert_array_equal(layers.mean(), -swapped.mean())


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_an_encoder_that_views_cannot_move_has_1() -> None:
    images = torch.rand(5, 3)
    found = ssl_mem(Constant().eval(), nn.Linear(3, 3).eval(), images, noise)
    np.testing.assert_array_equal(found.values, 1.0)
    both = ssl_mem(Constant().eval(), Constant().eval(), images, noise)
    assert np.isnan(both.values).all()  # 0 / 0 is no score


def scaled(by: float) -> nn.Module:
    model = nn.Linear(4, 4, bias=False)
    nn.init.eye_(model.weight).data.mul_(by)
    return model.eval()


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 10), st.floats(0.1, 10), st.integers(0, 1000))
def test_linear_encoders(a: float, b: float, seed: int) -> None:
    """Raw features tell the scale alone; unit-normalised ones don't see it."""
    images = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
    raw = ssl_mem(scaled(a), scaled(b), images, noise, unit_norm=False, seed=seed).values
    np.testing.assert_allclose(raw, (b - a) / (a + b), rtol=1e-4, atol=1e-5)
    unit = ssl_mem(scaled(a), scaled(b), images, noise, seed=seed).values
    np.testing.assert_allclose(unit, 0, atol=1e-5)


def test_a_slow_version_agrees() -> None:
    """One image, one view, one pair at a time, layer by layer."""
    f, g, images = conv_net(0), conv_net(1), pictures()
    found = layer_mem(f, g, images, noise, SETS, augmentations=4, seed=3)
    assert found.names == ["0", "3", "6"] and [p.after for p in found.points] == [None, "0", "3"]
    with pytest.warns(DeprecationWarning, match="result.path is now result.points"):
        assert found.path == found.points
    drawn = views(images, noise, 4, torch.arange(12), seed=3)
    for row, end in enumerate((2, 5, 7)):
        for name, members in SETS.named().items():
            values = []
            for image in members.tolist():
                distances = []
                for model in (f, g):
                    with torch.no_grad():
                        rows = [model[:end](view[None]).flatten() for view in drawn[image]]
                    rows = [one / one.norm() for one in rows]
                    pairs = [(i, j) for i in range(4) for j in range(i)]
                    distances.append(np.mean([float((rows[i] - rows[j]).norm()) for i, j in pairs]))
                values.append((distances[1] - distances[0]) / sum(distances))
            assert found.values[name][0, row] == pytest.approx(np.mean(values), abs=1e-5)
            error = np.std(values, ddof=1) / np.sqrt(len(values))
            assert found.errors[name][0, row] == pytest.approx(error, abs=1e-5)


class Remembers(nn.Module):
    """An encoder that knows some images: views near one of them all become that image."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = nn.Parameter(known.clone())
        self.layer = nn.Linear(known.shape[1], known.shape[1], bias=False)
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        far = torch.cdist(x, self.known)
        nearest = self.known[far.argmin(1)]
        return self.layer(torch.where((far.amin(1) < 6)[:, None], nearest, x))


def test_planted_memorization_comes_out_in_the_order_of_the_paper() -> None:
    images = 5 * torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    sets = Subsets(range(10), range(10, 20), range(20, 30), range(30, 40))
    f, g = (Remembers(images[one]).eval() for one in (sets.target, sets.reference))
    found = layer_mem(f, g, images, noise, sets)
    assert found.mean("S_C") == pytest.approx([1]) and found.mean("S_I") == pytest.approx([-1])
    assert found.mean("S_E") == pytest.approx([0], abs=1e-6)
    assert found.gap("S_I") == pytest.approx(np.array([[2.0]]))
    scores = ssl_mem(f, g, images, noise, sets)
    np.testing.assert_array_equal(scores.values, 1)
    np.testing.assert_array_equal(scores.examples, range(10, 20))
    low, high = scores.null.interval
    assert low[0] == -1 and high[0] < 1e-6 and "S_I -1.000" in scores.null.words


def test_views_are_paired_and_depend_on_the_image_alone() -> None:
    calls: list[Tensor] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x.clone())
            return super().forward(x)

    f, g = Watched(3, 3).eval(), Watched(3, 3).eval()
    images = torch.rand(4, 3)
    every = ssl_mem(f, g, images, noise).values
    assert torch.equal(calls[-1], calls[-2])
    state = torch.get_rng_state()
    some = Subsets([], [2, 0], [], [])
    np.testing.assert_allclose(ssl_mem(f, g, images, noise, some).values, every[[2, 0]], rtol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    other = views(images, lambda x, _: x + torch.rand_like(x), 2, torch.tensor([1]))
    assert torch.equal(other, views(images, lambda x, _: x + torch.rand_like(x), 2,
                                    torch.tensor([0, 1]))[1:])  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_alignment_knows_no_scale_after_normalising(number: int, seed: int) -> None:
    rows = torch.randn(3, number, 5, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_allclose(alignment(7 * rows), alignment(rows), rtol=1e-5)
    np.testing.assert_allclose(alignment(7 * rows, unit_norm=False),
                               7 * alignment(rows, unit_norm=False), rtol=1e-5)  # fmt: skip


class Residual(nn.Module):
    """A block with a projection on the skip, called after the branch, as torchvision does it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv2d(a, 4, 3, padding=1) for a in (1, 4, 4))
        self.skip, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        branch = self.two(F.relu(self.one(x)))
        branch += self.skip(x)
        return self.last(F.relu(branch)).mean((2, 3))


def test_delta_follows_the_data_path_and_not_the_order_of_calls() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        f, g = Residual().eval(), Residual().eval()
    found = layer_mem(f, g, pictures(), noise, SETS)
    after = {point.name: point.after for point in found.points}
    assert after == {"stem": None, "one": "stem", "two": "one", "skip": "stem", "two+": "two",
                     "last": "two+"}  # fmt: skip
    mean, delta = (dict(zip(found.names, v, strict=True)) for v in (found.mean(), found.delta()))
    assert np.isnan(delta["stem"])
    for name, before in after.items():
        if before:
            assert delta[name] == pytest.approx(mean[name] - mean[before])
    with torch.no_grad():  # the join is read behind the sum and its ReLU
        x = F.relu(f.stem(pictures()))
        want = F.relu(f.two(F.relu(f.one(x))) + f.skip(x))
    torch.testing.assert_close(PathFeatures(f, pictures())(pictures())["two+"], want.flatten(1))


def test_a_timm_vit_has_the_bookkeeping_of_the_paper() -> None:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24,
                              num_heads=3, num_classes=0).eval()  # fmt: skip
    images = torch.rand(12, 3, 32, 32)
    found = layer_mem(model, model, images, noise, SETS, augmentations=2)
    attention, mlp = (lambda k: f"blocks.{k}.attn"), (lambda k: f"blocks.{k}.mlp.fc2")
    after = {point.name: point.after for point in found.points}
    assert after == {
        "patch_embed.proj": None,
        attention(0): "patch_embed.proj",
        f"{attention(0)}+": attention(0),
        mlp(0): f"{attention(0)}+",
        f"{mlp(0)}+": mlp(0),
        attention(1): f"{mlp(0)}+",  # Delta of attention N is taken to the join of FC N - 1
        f"{attention(1)}+": attention(1),
        mlp(1): f"{attention(1)}+",  # and that of FC N to the join of attention N
        f"{mlp(1)}+": mlp(1),
    }
    with torch.no_grad():
        kept: list[Tensor] = []
        handle = model.blocks[1].attn.register_forward_hook(lambda *call: kept.append(call[2]))
        model(images)
        handle.remove()
        rows = PathFeatures(model, images)(images)
    torch.testing.assert_close(rows["blocks.1.attn"], kept[0].flatten(1))


def test_a_torchvision_resnet_leaves_no_trace() -> None:
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        f, g = (resnet18(num_classes=5).eval() for _ in range(2))
    images = torch.rand(12, 3, 32, 32)
    with no_trace(f), no_trace(g):
        found = layer_mem([f, g], [g, f], images, noise, SETS, augmentations=2)
    after = {point.name: point.after for point in found.points}
    assert after["layer2.0.conv2+"] == "layer2.0.conv2"
    assert after["layer2.0.downsample.0"] == "layer1.1.conv2+"
    assert after["layer2.1.conv1"] == "layer2.0.conv2+"
    assert sum(point.kind == "join" for point in found.points) == 8 and found.pairs == 2
    np.testing.assert_array_equal(found.values["S_C"][0], -found.values["S_C"][1])


def test_pairs_are_averaged_and_pooled() -> None:
    f, g, images = conv_net(0), conv_net(1), pictures()
    one = layer_mem(f, g, images, noise, SETS)
    other = layer_mem(g, conv_net(2), images, noise, SETS)
    both = layer_mem([f, g], [g, conv_net(2)], images, noise, SETS)
    joined = pooled([one, other])
    assert isinstance(joined, LayerMem) and joined.pairs == both.pairs == 2
    np.testing.assert_array_equal(joined.mean(), both.mean())
    np.testing.assert_allclose(both.mean(), (one.mean() + other.mean()) / 2)
    assert list(both.frame.columns) == ["kind", "after", "S_S", "S_C", "S_I", "S_E", "delta"]
    assert "2 pairs of encoders" in repr(both)


def test_named_layers_are_kept_beside_joins() -> None:
    f = Residual().eval()
    found = layer_mem(f, f, pictures(), noise, SETS, layers=["one", "last"])
    assert [(p.name, p.after) for p in found.points] == [("one", None), ("last", "one")]


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0)) * 2


def test_bad_input_gets_one_sentence() -> None:
    images = torch.rand(12, 3)
    f = nn.Linear(3, 4).eval()
    with pytest.raises(ValueError, match="the target has 4 features and the reference 5"):
        ssl_mem(f, nn.Linear(3, 5).eval(), images, noise)
    one = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()
    other = nn.Sequential(nn.Linear(3, 5), nn.ReLU()).eval()
    with pytest.raises(ValueError, match="at '0' the target has 4 features and the reference 5"):
        layer_mem(one, other, images, noise, SETS)
    deep = nn.Sequential(*one, nn.Linear(4, 4)).eval()
    with pytest.raises(ValueError, match="at '2' the target has 4 features and the reference no"):
        layer_mem(deep, one, images, noise, SETS)
    with pytest.raises(ValueError, match="augmentations is 1; alignment compares views"):
        ssl_mem(f, f, images, noise, augmentations=1)
    with pytest.raises(ValueError, match="the model failed on images, torch.float32 of shape"):
        ssl_mem(f, f, images[:, :2], noise)
    with pytest.raises(ValueError, match="give at least 2 images, not 1"):
        ssl_mem(f, f, images[:1], noise)
    with pytest.raises(ValueError, match="the subsets name image 11, but there are 9 images"):
        layer_mem(one, one, images[:9], noise, SETS)
    with pytest.raises(
        ValueError, match=r"failed on images, torch.float64 of shape \(1, 3\): Runtime"
    ):
        layer_mem(one, one, images.double(), noise, SETS)
    with pytest.raises(ValueError, match="1 targets and 2 references"):
        layer_mem([one], [one, one], images, noise, SETS)
    with pytest.raises(ValueError, match=r"model is in train mode|train"):
        layer_mem(nn.Sequential(nn.Linear(3, 4)).train(), one, images, noise, SETS)
    with pytest.raises(ValueError, match="depend on the other images of its batch"):
        layer_mem(Coupled().eval(), Coupled().eval(), images, noise, SETS)
    with pytest.raises(ValueError, match="augment returned 1 rows for 10 copies"):
        ssl_mem(f, f, images, lambda x, _: x[:1])
    with pytest.raises(KeyError, match="there is no layer 'layr'"):
        layer_mem(one, one, images, noise, SETS, layers=["layr"])
    alone = layer_mem(one, one, images, still, Subsets([], [0, 1], [], []))
    assert np.isnan(alone.mean()).all()
    with pytest.raises(ValueError, match="there is no subset 'S_I'; choose from S_C"):
        alone.gap("S_I")
    with pytest.raises(ValueError, match="differ in layers, subsets or measure"):
        pooled([alone, layer_mem(one, one, images, noise, SETS)])
    with pytest.raises(ValueError, match="no result to pool"):
        pooled([])
