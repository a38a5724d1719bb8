"""Layer groups, rewinding and retraining: identities, planted truths, and no trace on the model."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.probes.localization import (
    EVERYTHING,
    RetrainingSettings,
    Rewinder,
    layer_groups,
    layer_retraining,
    layer_rewinding,
)
from memviz.training.loop import predict, train

QUICK = {"epochs": 8, "batch_size": 16, "learning_rate": 0.05, "progress": False}


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(96, 20), nn.ReLU(), nn.Linear(20, 3))


def data() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 3
    x = 0.7 * torch.randn(60, 1, 6, 6, generator=generator)
    x[torch.arange(60), 0, y] += 1.5  # a bright row tells the class
    memorized, test = torch.arange(60) < 6, torch.arange(60) >= 45
    labels = torch.where(memorized, (y + 1) % 3, y)
    return x, labels, {"memorized": memorized, "clean": ~memorized & ~test, "test": test}


@pytest.fixture(scope="module")
def trained() -> mv.Study:
    x, y, groups = data()
    model = net()
    run = train(model, x[:45], y[:45], **QUICK, checkpoint_epochs=range(9))
    return mv.Study(model.eval(), x, y, groups, checkpoints=run.checkpoints)


def plain_accuracies(study: mv.Study, model: nn.Module) -> dict[str, float]:
    right = predict(model, study.inputs) == study.labels
    return {name: right[mask].float().mean().item() for name, mask in study.groups.items()}


def test_groups_of_several_networks_hold_every_parameter_and_buffer_once() -> None:
    from torchvision.models import densenet121, resnet18, vit_b_16

    models = [resnet18(), densenet121(), vit_b_16(image_size=32), nn.LSTM(3, 4), net()]
    models.append(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)))
    for model in models:
        groups = layer_groups(model)
        names = [name for group in groups for name in group.parameters]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        held = [name for group in groups for name in group.buffers]
        assert sorted(held) == sorted(name for name, _ in model.named_buffers())
    names = [group.name for group in layer_groups(models[0])]
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert "layer2.0.downsample.0" in names and "bn1" not in names
    assert len(layer_groups(models[-1])) == 1


def test_a_norm_joins_the_layer_before_it_only_where_it_fits() -> None:
    fits, other = nn.BatchNorm1d(4, affine=False), nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Linear(3, 4), fits, nn.Linear(4, 5), other)
    found = {group.name: group for group in layer_groups(model)}
    assert list(found) == ["0", "2", "3"]
    assert found["0"].buffers == ("1.running_mean", "1.running_var", "1.num_batches_tracked")
    shared = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    shared[1].weight = shared[0].weight
    assert [g.parameters for g in layer_groups(shared)] == [("0.weight", "0.bias"), ("1.bias",)]


def test_rewinding_to_the_last_epoch_is_the_identity(trained: mv.Study) -> None:
    final = plain_accuracies(trained, trained.model)
    found = layer_rewinding(trained, progress=False)
    assert found.layers == ("0", "4", "6")
    assert found.epochs == tuple(range(9))
    for table in (found.parameters, found.with_buffers):
        assert np.allclose(table[:, -1], list(final.values()), atol=1e-7)
    assert np.allclose(found.final, list(final.values()), atol=1e-7)


def test_all_layers_at_once_are_the_checkpoint_only_with_their_buffers(trained: mv.Study) -> None:
    rewinder = Rewinder(trained)
    differs = False
    for epoch in (0, 1, 3):
        model = net()
        model.load_state_dict(trained.checkpoints[epoch])
        then = plain_accuracies(trained, model.eval())
        everything = dict.fromkeys(rewinder.groups, epoch)
        assert rewinder.accuracies(everything, buffers=True) == pytest.approx(then)
        assert rewinder.accuracies_at(epoch) == pytest.approx(then)
        differs |= rewinder.accuracies(everything) != pytest.approx(then)
    assert differs


@pytest.mark.parametrize("buffers", [False, True])
def test_any_depths_equal_weights_copied_by_hand(trained: mv.Study, buffers: bool) -> None:
    depths = {"0": 1, "6": 4}
    model = net()
    model.load_state_dict(trained.model.state_dict())
    state = model.state_dict()
    for module, epoch in (("0", 1), ("1", 1), ("6", 4)):
        for name, value in trained.checkpoints[epoch].items():
            is_buffer = "running" in name or "num_batches" in name
            if name.startswith(f"{module}.") and (buffers or not is_buffer):
                state[name].copy_(value)
    by_hand = plain_accuracies(trained, model.eval())
    assert Rewinder(trained).accuracies(depths, buffers=buffers) == pytest.approx(by_hand)


def test_a_planted_layer_is_the_one_that_hurts() -> None:
    """The first layer was never trained, so putting it back changes nothing; the last one was."""
    x = torch.eye(4)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(torch.eye(4))
    start = {"0.weight": torch.eye(4), "2.weight": torch.roll(torch.eye(4), 1, 0)}
    groups = {"memorized": [0], "clean": [1, 2, 3]}
    study = mv.Study(model.eval(), x, torch.arange(4), groups, checkpoints={0: start})
    found = layer_rewinding(study, progress=False)
    assert found.parameters[0].tolist() == [[1.0, 1.0]]
    assert found.parameters[1].tolist() == [[0.0, 0.0]]
    assert found.at(0).loc["2", "clean"] == 0


def test_the_model_is_as_it_was_also_after_an_interrupt(trained: mv.Study) -> None:
    class Stops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.stop = net(), False
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.stop:
                raise KeyboardInterrupt
            return self.inner(x)

    model = Stops().eval()
    x, y, groups = data()
    then = {name: torch.randn_like(t.float()) for name, t in model.state_dict().items()}
    study = mv.Study(model, x, y, groups, checkpoints={0: then})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    versions = [(id(p), p._version) for p in model.parameters()]
    rewinder = Rewinder(study)
    rewinder.accuracies({"inner.0": 0}, buffers=True)
    model.stop = True
    with pytest.raises(KeyboardInterrupt):
        rewinder.accuracies({"inner.4": 0})
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert [(id(p), p._version) for p in model.parameters()] == versions


def test_kept_answers_follow_the_weights_and_may_be_changed_by_who_gets_them(
    trained: mv.Study,
) -> None:
    x, y, groups = data()
    model = net(3).eval()
    study = mv.Study(model, x, y, groups, checkpoints=trained.checkpoints)
    rewinder = Rewinder(study, examples=torch.arange(30))
    first = rewinder.accuracies({})
    assert list(first) == ["memorized", "clean"]
    first["clean"] = -1.0
    assert rewinder.accuracies({})["clean"] >= 0
    with torch.no_grad():
        model[6].bias[2] += 1e6
    right = predict(model, x[:30]) == y[:30]
    assert rewinder.accuracies({})["clean"] == pytest.approx(right[6:].float().mean().item())


def test_named_inputs_and_own_groups() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.one(a) + self.two(b)

    model = Named().eval()
    study = mv.Study(
        model,
        {"a": torch.randn(5, 3), "b": torch.randn(5, 3)},
        torch.zeros(5),
        {"test": range(5)},
        checkpoints={0: {name: torch.zeros_like(t) for name, t in model.state_dict().items()}},
    )
    found = layer_rewinding(study, {"both": ["one", "two"]}, progress=False)
    assert found.layers == ("both",)
    assert found.parameters.item() == 1  # all logits alike: the first class is predicted


def test_rewinding_has_a_table_and_a_figure(trained: mv.Study) -> None:
    found = layer_rewinding(trained, epochs=[0, 8], progress=False)
    assert len(found.frame) == 3 * 2 * 3
    row = found.frame.query("layer == '4' and epoch == 0 and group == 'test'").iloc[0]
    assert row["parameters"] == found.parameters[1, 0, 2]
    assert len(found.plot().axes) == 3
    assert found.plot(buffers=True)._repr_png_().startswith(b"\x89PNG")
    assert "layer rewinding of 3 layers" in repr(found)
    with pytest.raises(ValueError, match="epoch 3 is not among the epochs 0, 8"):
        found.at(3)
    few = layer_rewinding(trained, epochs=[0], examples=torch.arange(5, 20), progress=False)
    assert few.groups == ("memorized", "clean")
    only = Rewinder(trained, examples=torch.arange(5, 20)).accuracies({"4": 0})
    assert few.at(0).loc["4"].to_dict() == pytest.approx(only)


def test_retraining_trains_one_layer_on_one_group_and_nothing_else(trained: mv.Study) -> None:
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    rng = torch.get_rng_state()
    settings = RetrainingSettings(epochs=3, batch_size=8)
    found = layer_retraining(trained, only=["4"], settings=settings, progress=False)
    final, start = trained.model.state_dict(), trained.checkpoints[0]
    for name, tensor in found.models["4"].state_dict().items():
        if name.startswith("4."):
            assert not torch.equal(tensor, final[name]) and not torch.equal(tensor, start[name])
        else:  # the frozen batch norm before it keeps its statistics, too
            assert torch.equal(tensor, final[name])
    assert all(torch.equal(before[name], t) for name, t in trained.model.state_dict().items())
    assert all(p.requires_grad for p in trained.model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    rewound = Rewinder(trained).accuracies({"4": 0}, buffers=True)
    assert dict(zip(found.groups, found.accuracy["4"][0], strict=True)) == pytest.approx(rewound)
    last = plain_accuracies(trained, found.models["4"])
    assert found.accuracy["4"][-1].tolist() == pytest.approx(list(last.values()))


def test_the_labels_of_other_groups_are_never_used(trained: mv.Study) -> None:
    x, y, groups = data()
    changed = torch.where(groups["clean"], y, (y + 1) % 3)
    other = mv.Study(trained.model, x, changed, groups, checkpoints=trained.checkpoints)
    settings = RetrainingSettings(epochs=2, batch_size=8)
    both = [
        layer_retraining(study, only=["0"], settings=settings, progress=False).models["0"]
        for study in (trained, other)
    ]
    for mine, its in zip(both[0].parameters(), both[1].parameters(), strict=True):
        assert torch.equal(mine, its)


def test_batch_norm_statistics_are_the_layers_own_unless_asked(trained: mv.Study) -> None:
    name = "1.running_mean"
    final = trained.model.state_dict()[name]
    settings = RetrainingSettings(epochs=1, frozen_statistics=False)
    loose = layer_retraining(trained, only=["6"], settings=settings, progress=False)
    assert not torch.equal(loose.models["6"].state_dict()[name], final)
    own = layer_retraining(trained, only=["0"], settings=settings, progress=False)
    assert not torch.equal(own.models["0"].state_dict()[name], trained.checkpoints[0][name])


def test_a_planted_redundant_layer_brings_the_memorized_back_and_the_null_does_not() -> None:
    """What tells the memorized example apart lies in the first layer: the second is redundant.

    Its features mark the example with class 1's own feature, so any last layer that learns clean
    examples gives it the wrong label again. With everything learned anew, nothing does.
    """
    x = torch.cat([torch.eye(2).repeat(10, 1), torch.tensor([[1.0, 0.0]])])
    x = torch.cat([x, torch.zeros(21, 1)], 1)
    x[20, 2] = 1.0
    labels = torch.cat([torch.arange(20) % 2, torch.tensor([1])])
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0, -3.0], [0.0, 1.0, 3.0]]))
        model[1].weight.copy_(torch.tensor([[3.0, -3.0], [-3.0, 3.0]]))
    start = {
        "0.weight": torch.tensor([[1.0, 0.2, 0.0], [0.2, 1.0, 0.0]]),
        "1.weight": torch.zeros(2, 2),
    }
    groups = {"memorized": [20], "clean": range(20)}
    study = mv.Study(model, x, labels, groups, checkpoints={0: start})
    settings = RetrainingSettings(learning_rate=0.5, epochs=20, weight_decay=0.0)
    found = layer_retraining(study, settings=settings, progress=False)
    table = found.by_layer
    assert table.loc["1", "memorized rewound"] == 0
    assert table.loc["1", "memorized retrained"] == 1
    assert table.loc["0", "memorized retrained"] == 0
    assert table.loc[EVERYTHING, "memorized retrained"] == 0
    assert (table["clean retrained"] == 1).all()
    assert (table["epochs"] < 20).all()  # three epochs at 100 % end it


def test_retraining_has_a_table_and_a_figure(trained: mv.Study) -> None:
    settings = RetrainingSettings(epochs=1)
    found = layer_retraining(trained, settings=settings, progress=False)
    assert list(found.by_layer.index) == ["0", "4", "6", EVERYTHING]
    assert isinstance(found.frame, pd.DataFrame)
    assert len(found.frame) == 4 * 2 * 3
    assert found.plot()._repr_png_().startswith(b"\x89PNG")
    assert "on clean examples alone" in repr(found)


def test_bad_input_gets_one_sentence(trained: mv.Study) -> None:
    with pytest.raises(KeyError, match="no module or parameter 'conv9'; the closest"):
        layer_groups(net(), {"a": "conv9"})
    with pytest.raises(ValueError, match="'relu' has no parameters"):
        layer_groups(net(), {"relu": "2"})
    with pytest.raises(ValueError, match=r"'0.weight' is in layer group 'a' and in 'b'"):
        layer_groups(net(), {"a": "0", "b": ["0", "1"]})
    with pytest.raises(ValueError, match="ReLU has no parameters"):
        layer_groups(nn.ReLU())
    rewinder = Rewinder(trained)
    with pytest.raises(ValueError, match="no layer group '5'; choose from 0, 4, 6"):
        rewinder.accuracies({"5": 0})
    with pytest.raises(ValueError, match="no checkpoint of epoch 99"):
        rewinder.accuracies({"0": 99})
    with pytest.raises(ValueError, match="there is no layer group 'x'; choose from 0, 4, 6"):
        layer_retraining(trained, only=["x"])
    with pytest.raises(ValueError, match="there is no group 'x'"):
        layer_retraining(trained, group="x")
    with pytest.raises(ValueError, match="must be at least 1"):
        RetrainingSettings(patience=0)
    with pytest.raises(FloatingPointError, match="try a learning_rate below"):
        layer_retraining(
            trained, only=["6"], settings=RetrainingSettings(learning_rate=1e38), progress=False
        )
    x, y, groups = data()
    other = mv.Study(net().eval(), x, y, groups, checkpoints={0: nn.Linear(2, 2).state_dict()})
    with pytest.raises(ValueError, match="another architecture"):
        Rewinder(other).accuracies({"0": 0})


def test_retraining_with_dropout_is_the_same_for_the_same_seed() -> None:
    x, y, groups = data()
    model = nn.Sequential(*net()[:5], nn.Dropout(0.4), *net()[5:]).eval()
    study = mv.Study(model, x, y, groups, checkpoints={0: model.state_dict()})

    def weights(state: int, seed: int) -> Tensor:
        torch.manual_seed(state)
        settings = RetrainingSettings(epochs=2, batch_size=8, seed=seed)
        found = layer_retraining(study, only=[EVERYTHING], settings=settings, progress=False)
        return found.models[EVERYTHING].state_dict()["4.weight"]

    assert torch.equal(weights(0, 5), weights(1, 5))
    assert not torch.equal(weights(0, 5), weights(0, 6))
