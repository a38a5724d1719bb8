"""UnitMem, ClassMem and class selectivity: closed forms, planted units, a slow version, input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import memviz as mv
from memviz.probes.encoders.experiments import inject
from memviz.probes.encoders.units import class_mem, class_selectivity, random_network, unit_mem
from tests.support.traces import no_trace


class Given(nn.Module):
    """Units whose activations are the inputs' own entries."""

    def __init__(self, units: int, *, relu: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(units, units, bias=False)
        nn.init.eye_(self.layer.weight)
        self.after = nn.ReLU() if relu else nn.Identity()
        self.head = nn.Linear(units, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(self.layer(x)))


def study_of(values: Tensor, labels: Tensor | None = None, *, relu: bool = True) -> mv.Study:
    """A study whose unit u has the activation ``values[n, u]`` on example n."""
    given = torch.zeros(len(values)) if labels is None else labels
    model = Given(values.shape[1], relu=relu).eval()
    return mv.Study(model, values, given, {"training": range(len(values))})


def units(study: mv.Study, **more: object) -> np.ndarray:
    return unit_mem(study, random_networks=0, progress=False, **more).values


def test_closed_forms() -> None:
    two = torch.full((10, 1), 1.0)
    two[3] = 4.0
    one_hot, constant = torch.eye(10)[:, :1], torch.full((10, 1), 0.7)
    found = units(study_of(torch.cat([two, one_hot, constant], 1)))
    assert found == pytest.approx([(4 - 1) / (4 + 1), 1, 0], abs=1e-6)


def test_uniform_activations_have_a_third() -> None:
    generator = torch.Generator().manual_seed(0)
    found = units(study_of(torch.rand(1000, 50, generator=generator)))
    assert found.mean() == pytest.approx(1 / 3, abs=0.005)


@pytest.mark.parametrize("n", [50, 1000])
def test_exponential_activations_have_what_harmonic_numbers_say(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.empty(n, 200).exponential_(generator=generator)
    harmonic = sum(1 / k for k in range(1, n + 1))
    # The mean of a ratio is not the ratio of means: the sheet's simulation is .762 for .764.
    assert units(study_of(values)).mean() == pytest.approx(
        (harmonic - 1) / (harmonic + 1), abs=0.01
    )


def test_noise_has_no_zero_and_grows_with_the_images() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1000, 200, generator=generator)
    few, many = units(study_of(values[:100])).mean(), units(study_of(values)).mean()
    assert few == pytest.approx(0.73, abs=0.02) and many == pytest.approx(0.78, abs=0.02)


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.5 * torch.randn(x.shape, generator=generator)


@pytest.mark.parametrize("others", ["mean", "median"])
@pytest.mark.parametrize("augmentations", [1, 4])
def test_a_slow_version_agrees(others: str, augmentations: int) -> None:
    """Every copy by itself through plain hooks, NumPy's own mean and median."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(96, 3),
        ).eval()  # fmt: skip
        images = torch.rand(9, 1, 8, 8)
    study = mv.Study(model, images, torch.zeros(9), {"a": range(9)})
    copies: list[Tensor] = []

    def kept(x: Tensor, generator: torch.Generator) -> Tensor:
        copies.append(noisy(x, generator))
        return copies[-1]

    found = unit_mem(study, augment=kept, augmentations=augmentations, others=others,
                     random_networks=0, progress=False)  # fmt: skip
    passed = copies[-9:]  # before them the stream looks at two examples
    rows = []
    for example in passed:
        seen: list[np.ndarray] = []
        for copy in example:
            with torch.no_grad():
                first = model[:2](copy[None])
                second = model[2:4](first)
            seen.append(np.concatenate([one.mean((0, 2, 3)).numpy() for one in (first, second)]))
        rows.append(np.mean(seen, 0))
    table = np.array(rows, np.float64)
    for unit, column in enumerate(table.T):
        top = column.argmax()
        rest = getattr(np, others)(np.delete(column, top))
        want = (column[top] - rest) / (column[top] + rest) if column[top] > 0 else np.nan
        assert found.values[unit] == pytest.approx(want, rel=1e-4, nan_ok=True)
        assert found.owners[unit] == (top if column[top] > 0 else -1)


def test_the_mean_over_augmentations_is_taken_before_the_maximum() -> None:
    """A unit that fires at one of two copies of each image, as much: no image is special."""

    def one_of_two(x: Tensor, _generator: torch.Generator) -> Tensor:
        out = torch.zeros_like(x)
        out[int(x[0, 0]) % 2] = 8.0
        return out

    study = study_of(torch.arange(6.0)[:, None])
    assert units(study, augment=one_of_two, augmentations=2) == pytest.approx([0.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6), st.floats(0.1, 100))
def test_it_lies_between_0_and_1_and_knows_no_scale(n: int, seed: int, scale: float) -> None:
    values = torch.rand(n, 4, generator=torch.Generator().manual_seed(seed))
    found, scaled = units(study_of(values)), units(study_of(scale * values))
    assert ((found >= -1e-9) & (found <= 1)).all()
    np.testing.assert_allclose(found, scaled, rtol=1e-4, atol=1e-6)


def test_chunks_and_blocks_of_the_median_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    study = study_of(torch.rand(40, 7, generator=generator))
    whole, median = units(study), units(study, others="median")
    few = units(study, others="median", memory=4 * 40 * 3)  # three units a pass
    monkeypatch.setattr("memviz.engine.activations._stream.chunk_size", lambda *_, **__: 3)
    np.testing.assert_allclose(units(study), whole, rtol=1e-6)
    np.testing.assert_array_equal(few, median)


def test_dead_units_have_no_score_and_are_counted() -> None:
    found = unit_mem(study_of(torch.tensor([[0.0, 1.0], [0.0, 2.0]])), random_networks=0)
    assert np.isnan(found.values[0]) and found.owners.tolist() == [-1, 1]
    assert found.dead.tolist() == [True, False]
    assert "1 of 2 units are dead" in repr(found)
    assert len(found.top(1)) == 1 and found.top(1) == mv.UnitSet.parse("layer:1")


def test_negative_activations_are_taken_without_their_sign_or_refused() -> None:
    values = torch.tensor([[1.0, -5.0], [1.0, 1.0], [1.0, 1.0]])
    signed = study_of(values, relu=False)
    found = unit_mem(signed, random_networks=0)
    assert found.values == pytest.approx([0, (5 - 1) / (5 + 1)])
    assert "1 units can be negative" in found.measure and found.owners[1] == 0
    with pytest.raises(ValueError, match=r"unit layer:1 has negative activations.*negative='abs'"):
        unit_mem(signed, negative="refuse", random_networks=0)
    assert unit_mem(study_of(values), negative="refuse", random_networks=0).values[0] == 0


def test_without_augmentation_the_result_says_so() -> None:
    study = study_of(torch.rand(5, 3))
    assert "not augmented (1 copy each)" in unit_mem(study, random_networks=0).measure
    found = unit_mem(study, augment=noisy, augmentations=3, random_networks=0)
    assert "mean of 3 augmentations each" in found.measure


def test_training_images_are_scored_and_held_out_ones_beside() -> None:
    values = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    model = Given(3).eval()
    study = mv.Study(model, values, torch.zeros(20), {"training": range(8), "test": range(8, 20)})
    found = unit_mem(study, held_out=study.group("test"), random_networks=0)
    assert found.values == pytest.approx(units(study_of(values[:8])))
    assert found.held_out == pytest.approx(units(study_of(values[8:16])))
    assert set(found.owners) <= set(range(8))
    assert {"owner", "held_out"} <= set(found.frame.columns)
    with pytest.raises(ValueError, match="12 held-out images for 20"):
        unit_mem(study, examples=torch.arange(20), held_out=study.group("test"))


def test_the_null_is_of_random_weights_and_finds_no_planted_unit() -> None:
    """A trained-looking unit for one image stands out; in the null none does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(60, 1, 8, 8)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip
        model(images)
        model.eval()
    study = mv.Study(model, images, torch.zeros(60), {"a": range(60)})
    with no_trace(model):
        planted = inject(study, 7, "0:3", progress=False)
        found = unit_mem(planted.study, progress=False)
    _, high = found.null.interval
    assert found.values[3] > high[3] == high[0]  # one null a layer
    assert found.null.values.shape == (200, 16)
    beside = unit_mem(mv.Study(random_network(study, torch.arange(60)), images, torch.zeros(60),
                               {"a": range(60)}), random_networks=0).values  # fmt: skip
    assert found.null.mean[0] == pytest.approx(np.nanmean(beside), abs=0.01)


def test_random_networks_are_random_calibrated_and_leave_no_trace() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = 3 + torch.rand(32, 1, 6, 6)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
        model.extra = nn.Parameter(torch.randn(50))
    study = mv.Study(model.eval(), images, torch.zeros(32), {"a": range(32)})
    state = torch.get_rng_state()
    with no_trace(model):
        one, other, again = (random_network(study, torch.arange(32), seed) for seed in (0, 1, 0))
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in one.named_parameters():
        assert torch.equal(weight, dict(again.named_parameters())[name])
    for part in ("0.weight", "3.weight", "extra"):
        found = [dict(m.named_parameters())[part] for m in (model, one, other)]
        assert not any(torch.equal(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert one.extra.std().item() == pytest.approx(model.extra.std().item(), rel=0.4)
    with torch.no_grad():
        after = one[:2](images)
    assert (
        after.mean((0, 2, 3)).abs().max() < 1e-4 and (after.std((0, 2, 3)) - 1).abs().max() < 0.01
    )


def test_it_takes_inputs_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.norm(self.layer(x))))

    study = mv.Study(Named().eval(), {"x": torch.rand(6, 3)}, torch.zeros(6), {"a": range(6)})
    assert len(unit_mem(study, progress=False)) == 4


def test_a_vit_has_the_mean_over_its_patches_and_the_class_token() -> None:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=24,
                              num_heads=3, num_classes=0).eval()  # fmt: skip
    images = torch.rand(5, 3, 32, 32)
    study = mv.Study(model, images, torch.zeros(5), {"a": range(5)})
    found = unit_mem(study, layers=["blocks.0.mlp.fc1"], random_networks=0, progress=False)
    kept: list[Tensor] = []
    handle = model.blocks[0].mlp.act.register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.no_grad():
        model(images)
    handle.remove()
    mean = kept[0].mean(1).abs().double()  # five tokens; GELU can be negative
    assert kept[0].shape[1] == 5 and "units can be negative" in found.measure
    rest = (mean.sum(0) - mean.amax(0)) / 4
    np.testing.assert_allclose(found.values, (mean.amax(0) - rest) / (mean.amax(0) + rest),
                               rtol=1e-3, atol=1e-5)  # fmt: skip


def test_class_mem_against_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    values, labels = torch.rand(30, 4, generator=generator), torch.arange(30) % 3 + 5
    found = class_mem(study_of(values, labels), progress=False)
    means = np.stack([values[labels == one].numpy().mean(0) for one in (5, 6, 7)])
    top, rest = means.max(0), (means.sum(0) - means.max(0)) / 2
    np.testing.assert_allclose(found.values, (top - rest) / (top + rest), rtol=1e-4)
    np.testing.assert_array_equal(found.owners, means.argmax(0) + 5)


def test_a_unit_for_a_class_and_one_for_an_image_both_have_class_mem_1() -> None:
    labels = torch.arange(100) % 10
    for_class, for_image = (labels == 4).float(), (torch.arange(100) == 42).float()
    study = study_of(torch.stack([for_class, for_image], 1), labels)
    assert class_mem(study).values == pytest.approx([1, 1])
    q = 9 / 99  # of the others, the share that is in the class
    assert units(study) == pytest.approx([(1 - q) / (1 + q), 1], abs=1e-6)
    assert (1 - q) / (1 + q) == pytest.approx(0.82, abs=0.02)


def test_the_null_of_class_mem_is_below_a_class_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    noise = torch.rand(200, 1, generator=generator)
    found = class_mem(study_of(torch.cat([(labels == 1)[:, None] + noise, noise], 1), labels))
    _, high = found.null.interval
    assert found.null.values.shape == (20, 2)
    assert found.values[0] > high[0] and found.values[1] < 2 * high[1]


def test_class_selectivity_is_of_the_test_images() -> None:
    values, labels = torch.eye(2).repeat(4, 1), torch.arange(8) % 2
    values[:4] = 1.0
    study = mv.Study(Given(2).eval(), values, labels, {"training": range(4), "test": range(4, 8)})
    assert class_selectivity(study).values == pytest.approx([1, 1])
    assert class_mem(study).values == pytest.approx([0, 0])


def test_bad_input_gets_one_sentence() -> None:
    study = study_of(torch.rand(4, 2))
    with pytest.raises(ValueError, match="UnitMem compares images; give at least 2, not 1"):
        unit_mem(study, examples=torch.tensor([2]))
    with pytest.raises(ValueError, match=r"others is 'mode' .* use 'mean' or 'median'"):
        unit_mem(study, others="mode")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="there is no layer 'layre'"):
        unit_mem(study, layers=["layre"])
    with pytest.raises(ValueError, match="all 4 images are of class 0"):
        class_mem(study)
    with pytest.raises(ValueError, match="give at least 2 images, not 1"):
        class_mem(study, examples=torch.tensor([1]))
    with pytest.raises(ValueError, match="there is no group 'test'"):
        class_selectivity(study)
