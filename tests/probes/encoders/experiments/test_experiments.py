"""The injection check, pruning, layer replacement, fine-tuning of chosen layers, probes."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.probes.encoders import ProbeAccuracy, layer_modules
from memviz.probes.encoders.experiments import (
    fine_tune_layers,
    inject,
    layer_fine_tuning,
    layer_replacement,
    prune,
    replace_layers,
)
from memviz.probes.encoders.units import unit_mem
from memviz.scores import Scores
from tests.support.traces import no_trace


@pytest.fixture(scope="module")
def encoder() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        for _ in range(20):
            model(torch.rand(32, 1, 8, 8))
    return model.eval()


@pytest.fixture(scope="module")
def study(encoder: nn.Sequential) -> mv.Study:
    images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    groups = {"training": range(20), "test": range(20, 24)}
    return mv.Study(encoder, images, torch.arange(24) % 3, groups)


@pytest.mark.parametrize(("example", "unit"), [(3, "3:5"), (11, "0:2")])
def test_an_injected_image_is_found_and_no_other_unit_changes(
    study: mv.Study, example: int, unit: str
) -> None:
    with no_trace(study.model):
        planted = inject(study, example, unit, progress=False)
    # Nine weights of a first layer can't tell noise from noise; its unit goes up all the same.
    assert planted.rank == 1 and planted.found == (unit != "0:2")
    assert planted.others_changed == 0
    row = planted.unit.index
    assert planted.after.values[row] > planted.before.values[row]
    assert (planted.after.owners[row] == example) == planted.found
    assert planted.course["loss"].iloc[-1] < planted.course["loss"].iloc[0]
    layer = planted.unit.layer
    for name, before in study.model.named_parameters():
        after = dict(planted.study.model.named_parameters())[name]
        changed = (before != after).flatten(1).any(1) if before.dim() > 1 else before != after
        own = name.startswith(f"{layer}.") or (layer == "0" and name.startswith("1."))
        assert changed.nonzero()[:, 0].tolist() in ([], [row]) if own else not changed.any()


def test_the_top_unit_of_all_layers_is_the_injected_one(study: mv.Study) -> None:
    planted = inject(study, 6, "3:7", progress=False)
    found = unit_mem(planted.study, progress=False, random_networks=0)
    assert found.top(1) == mv.UnitSet.parse("3:7")


def test_what_the_unit_is_tuned_on_is_what_the_model_computes(study: mv.Study) -> None:
    """The last look of the course against the model's own pre-activation, by a hook."""
    planted = inject(study, 4, "0:1", steps=25, progress=False)
    kept: list[Tensor] = []
    handle = planted.study.model[1].register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.no_grad():
        planted.study.model(study.inputs[:20])
    handle.remove()
    high = kept[0][:, 1].flatten(1).amax(1)
    last = planted.course.iloc[-1]
    assert last["image"] == pytest.approx(high[4].item(), abs=1e-4)
    others = torch.cat([high[:4], high[5:]]).max().item()
    assert last["highest other"] == pytest.approx(others, abs=1e-4)


def test_injection_refuses_what_it_can_not_do(study: mv.Study) -> None:
    with pytest.raises(ValueError, match="'3' is not a set of units"):
        inject(study, 0, "3")
    with pytest.raises(IndexError, match="there is no example 99"):
        inject(study, 99, "3:0")
    with pytest.raises(IndexError, match="layer '3' has 12 units"):
        inject(study, 0, "3:12")
    with pytest.raises(KeyError, match="there is no layer '9'"):
        inject(study, 0, "9:0")
    with pytest.raises(ValueError, match="no other image"):
        inject(study, 0, "3:0", examples=torch.tensor([0]))
    grouped = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten()).eval()
    pairs = mv.Study(grouped, torch.rand(4, 2, 5, 5), torch.zeros(4), {"a": range(4)})
    with pytest.raises(ValueError, match="ungrouped convolution"):
        inject(pairs, 0, "0:0")
    normed = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    rows = mv.Study(normed, torch.rand(4, 4), torch.zeros(4), {"a": range(4)})
    with pytest.raises(ValueError, match="layer '0' is followed by a LayerNorm"):
        inject(rows, 0, "0:0")


class Sum(nn.Module):
    """Accuracy stands for how many of the first units are left."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Linear(6, 6, bias=False) for _ in range(2))
        for layer in (self.one, self.two):
            nn.init.eye_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.two(torch.relu(self.one(x)))) * 1.0


def test_pruning_takes_the_units_it_says() -> None:
    model = Sum().eval()
    study = mv.Study(model, torch.ones(3, 6), torch.zeros(3), {"a": range(3)})
    units = tuple(mv.Unit(layer, k) for layer in ("one", "two") for k in range(6))
    values = np.array([0.0, 1, 2, 3, 4, np.nan, 10, 11, 12, 13, 14, np.nan])
    left: list[list[int]] = []

    def alive(model: nn.Module) -> float:
        with torch.no_grad():
            left.append(model(torch.ones(1, 6))[0].nonzero()[:, 0].tolist())
        return float(len(left[-1]))

    with no_trace(model):
        found = prune(study, Scores("made", "", values, units=units), alive, (1 / 3,), draws=4)
    assert found.frame["units"].tolist() == [0, 4, 4, 4]
    assert left[0] == list(range(6)) and left[1] == [0, 1, 2, 5] and left[-1] == [2, 3, 4, 5]
    assert found.accuracy("none") == 6 and found.accuracy("top", 1 / 3) == 4
    assert all(5 in one for one in left)  # a dead unit is never taken
    whole = prune(study, Scores("made", "", values, units=units), alive, (0.25,), per_layer=False)
    assert left[8] == [0, 1, 5]  # the three highest stand in layer two
    assert whole.frame["units"].tolist() == [0, 3, 3, 3]
    assert "made" in repr(found) and len(found.plot().axes) == 1


def test_pruning_refuses_what_it_can_not_take(study: mv.Study) -> None:
    scores = unit_mem(study, progress=False, random_networks=0)
    with pytest.raises(ValueError, match="over examples"):
        prune(study, Scores("x", "", np.ones(2), examples=np.arange(2)), lambda _: 0.0)
    with pytest.raises(ValueError, match="each must be above 0 and at most 1"):
        prune(study, scores, lambda _: 0.0, (1.5,))
    with pytest.raises(ValueError, match="no row for 'top' at share 0.5"):
        prune(study, scores, lambda _: 0.0, (0.1,)).accuracy("top", 0.5)


def test_replaced_layers_come_with_their_batch_norm(encoder: nn.Sequential) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        donor = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ).eval()  # fmt: skip
    images = torch.rand(6, 1, 8, 8)
    with no_trace(encoder), no_trace(donor):
        first = replace_layers(encoder, donor, ["0"], images[:2])
        both = replace_layers(encoder, donor, ["0", "3"], images[:2])
        with torch.no_grad():
            torch.testing.assert_close(first[:3](images), donor[:3](images))
            torch.testing.assert_close(first[3:](images[:, :1].expand(-1, 8, -1, -1)),
                                       encoder[3:](images.expand(-1, 8, -1, -1)))  # fmt: skip
            torch.testing.assert_close(both(images), donor(images))
    table = layer_replacement(
        encoder, donor, {"first": ["0"], "all": ["0", "3"]},
        {"like the donor": lambda m: float((m(images) - donor(images)).abs().max().detach())},
        images[:2],
    )  # fmt: skip
    assert table.index.tolist() == ["none", "first", "all"]
    assert table.loc["all", "like the donor"] < 1e-6 < table.loc["first", "like the donor"]
    wider = nn.Sequential(nn.Conv2d(1, 9, 3), nn.ReLU()).eval()
    narrow = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU()).eval()
    with pytest.raises(ValueError, match="layer '0' of the donor has another shape"):
        replace_layers(narrow, wider, ["0"], images[:2])


def test_layers_of_a_vit_can_be_replaced_and_tuned() -> None:
    import timm

    made = [timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=24,
                              num_heads=3, num_classes=0).eval() for _ in range(2)]  # fmt: skip
    images, labels = torch.rand(6, 3, 32, 32), torch.arange(6) % 2
    mixed = replace_layers(*made, ["blocks.0.attn"], images[:2])
    assert torch.equal(mixed.blocks[0].attn.qkv.weight, made[1].blocks[0].attn.qkv.weight)
    tuned = fine_tune_layers(made[0], ["blocks.0.mlp.fc2"], images, labels, epochs=1)
    changed = {
        name
        for name, weight in tuned[0].named_parameters()
        if not torch.equal(weight, dict(made[0].named_parameters())[name])
    }
    assert changed == {"blocks.0.mlp.fc2.weight", "blocks.0.mlp.fc2.bias"}


def test_only_the_chosen_layers_are_tuned(encoder: nn.Sequential, study: mv.Study) -> None:
    images, labels = study.inputs, study.labels
    assert isinstance(images, Tensor)
    with no_trace(encoder):
        tuned = fine_tune_layers(encoder, ["0"], images, labels, epochs=2)
        again = fine_tune_layers(encoder, ["0"], images, labels, epochs=2)
    before = encoder.state_dict()
    for name, value in tuned[0].state_dict().items():
        trained = name in ("0.weight", "1.weight", "1.bias")
        assert torch.equal(value, before[name]) != trained
        assert torch.equal(value, again[0].state_dict()[name])
    table = layer_fine_tuning(encoder, {"first": ["0"]}, (images, labels), (images, labels),
                              epochs=1, seeds=(0, 1))  # fmt: skip
    assert table.index.tolist() == ["head alone", "first"]
    assert ((table["least"] <= table["accuracy"]) & (table["accuracy"] <= table["largest"])).all()
    assert [type(m).__name__ for m in layer_modules(encoder, images[:2], "0")] == [
        "Conv2d", "BatchNorm2d",
    ]  # fmt: skip
    with pytest.raises(KeyError, match="there is no layer 'conv'"):
        fine_tune_layers(encoder, ["conv"], images, labels)
    with pytest.raises(ValueError, match="seeds is empty; give at least one"):
        layer_fine_tuning(encoder, {}, (images, labels), (images, labels), seeds=())


def test_probes_equal_a_plain_classifier() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(90, 6, generator=generator), torch.arange(90) % 3
    images += 1.5 * torch.eye(3, 6)[labels]
    first, rest = slice(0, 60), slice(60, 90)
    data = images[first], labels[first], images[rest], labels[rest]
    near = KNeighborsClassifier(5, metric="cosine").fit(images[first], labels[first])
    found = ProbeAccuracy(*data, "knn")(nn.Identity())
    assert found == pytest.approx(near.score(images[rest], labels[rest]), abs=0.07)  # ties
    assert 0.6 < ProbeAccuracy(*data)(nn.Identity()) <= 1
    blind = nn.Linear(6, 2).eval()
    nn.init.zeros_(blind.weight)
    assert ProbeAccuracy(*data)(blind) == pytest.approx(1 / 3, abs=0.01)


def test_probes_refuse_bad_input() -> None:
    x, y = torch.rand(6, 2), torch.arange(6) % 2
    with pytest.raises(ValueError, match="6 images and 5 labels"):
        ProbeAccuracy(x, y[:5], x, y)
    with pytest.raises(ValueError, match="6 images and 0 labels"):
        ProbeAccuracy(x, y, x, y[0])
    encoder = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval()
    for wrong in (x.double(), x[:, :1], x[0, 0], torch.zeros(0)):
        with pytest.raises(
            ValueError, match=r"the model failed on inputs, torch\.float.*; give what"
        ):
            replace_layers(encoder, encoder, ["0"], wrong)
    with pytest.raises(ValueError, match="the model failed on inputs, image: TypeError"):
        layer_modules(encoder, {"image": x}, "0")
    with pytest.raises(ValueError, match="the model failed on inputs, torch.float64 of shape"):
        fine_tune_layers(encoder, ["0"], x.double(), y)
    with pytest.raises(ValueError, match="labels hold 4611686018427387904; number the classes"):
        fine_tune_layers(encoder, ["0"], x, torch.tensor([2**62, 0, 0, 1, 1, 1]))
    tuned = [fine_tune_layers(encoder, ["0"], x, given, epochs=2) for given in (y, y.int())]
    assert torch.equal(tuned[0](x), tuned[1](x))
    with pytest.raises(ValueError, match="how is 'svm'; use 'linear' or 'knn'"):
        ProbeAccuracy(x, y, x, y, "svm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the same class"):
        ProbeAccuracy(x, 0 * y, x, y)
    with pytest.raises(ValueError, match="k is 7"):
        ProbeAccuracy(x, y, x, y, "knn", k=7)
