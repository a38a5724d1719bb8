"""Sweep, estimate and scores against slow or closed-form answers."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.record import _passes as passes


class Conv(nn.Module):
    """Two convolutions and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 7, 2)
        self.fc, self.head = nn.Linear(7, 9), nn.Linear(9, 3)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3))
        return self.head(self.relu3(self.fc(x)))


AFTER = {"conv1": "relu1", "conv2": "relu2", "fc": "relu3"}


@pytest.fixture
def study() -> mv.Study:
    torch.manual_seed(0)
    groups = {"memorized": range(6), "clean": range(6, 18), "test": range(18, 24)}
    labels, true = torch.arange(24) % 3, torch.arange(24) % 3
    true[:6] = (true[:6] + 1) % 3
    inputs = torch.randn(24, 1, 6, 6)
    return mv.Study(Conv().eval(), inputs, labels, groups, true_labels=true)


def slowly(study: mv.Study, unit: mv.Unit) -> Tensor:
    """Outputs with one unit ablated, by a hook."""

    def zero(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, unit.index] = 0
        return output

    handle = study.model.get_submodule(AFTER[unit.layer]).register_forward_hook(zero)
    with torch.no_grad():
        found = study.model(study.inputs)
    handle.remove()
    return found


def test_effects_equal_a_slow_loop_of_hooks(study: mv.Study) -> None:
    effects = mv.sweep(study, progress=False)
    task, labels = study.task, study.labels
    with torch.no_grad():
        clean = study.model(study.inputs)
    assert [str(u) for u in effects.units][:2] == ["conv1:0", "conv1:1"]
    assert len(effects.units) == 5 + 7 + 9  # the output layer is left out
    assert torch.allclose(effects.margin, task.margin(clean, labels), atol=1e-6)
    assert torch.allclose(effects.loss, task.loss(clean, labels), atol=1e-6)
    for row, unit in enumerate(effects.units):
        outputs = slowly(study, unit)
        margin, loss = task.margin(outputs, labels), task.loss(outputs, labels)
        assert torch.allclose(effects.margin_change[row], margin - effects.margin, atol=1e-5)
        assert torch.allclose(effects.loss_change[row], loss - effects.loss, atol=1e-5)
        assert torch.equal(effects.correct[row], outputs.argmax(1) == labels)
    assert effects.engine == "graph" and effects.done.all()


@pytest.mark.parametrize("how", ["zero", "mean", "resample 1", "filter", "scale 0.5"])
def test_chunks_first_equals_units_first(
    study: mv.Study, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = mv.sweep(study, how=how, progress=False)
    monkeypatch.setattr(passes, "chunk_size", lambda *_, **__: 7)
    for memory in (None, 0):
        effects = mv.sweep(study, how=how, memory=memory, progress=False)
        assert torch.allclose(effects.margin_change, wanted.margin_change, atol=1e-5)
        assert torch.equal(effects.correct, wanted.correct)
        assert effects.done.all() and not effects.margin_change.isnan().any()


def test_some_units_and_some_examples(study: mv.Study) -> None:
    everything = mv.sweep(study, progress=False)
    few = mv.sweep(study, "fc:3,1 conv2:6", torch.tensor([20, 3, 7]), progress=False)
    assert [str(u) for u in few.units] == ["fc:1", "fc:3", "conv2:6"]
    rows = [everything.units.index(unit) for unit in few.units]
    wanted = everything.margin_change[rows][:, [20, 3, 7]]
    assert torch.allclose(few.margin_change, wanted, atol=1e-6)
    assert few.frame.shape == (9, 7)
    first = few.frame.iloc[1]
    assert (first.layer, first.unit, first.example) == ("fc", 1, 3)
    assert first.margin_change == pytest.approx(float(wanted[0, 1]), abs=1e-6)


@pytest.mark.parametrize("how", ["mean", "resample 1"])
@pytest.mark.parametrize("engine", ["auto", "replay"])
def test_means_and_donors_are_the_whole_study_s(study: mv.Study, how: str, engine: str) -> None:
    some = torch.tensor([19, 2, 7, 3])
    whole = mv.sweep(study, how=how, progress=False, engine=engine)
    found = mv.sweep(study, examples=some, how=how, progress=False, engine=engine)
    assert torch.allclose(found.margin_change, whole.margin_change[:, some], atol=1e-5)


def test_the_output_layer_if_it_is_named(study: mv.Study) -> None:
    effects = mv.sweep(study, "head:0", progress=False)
    with torch.no_grad():
        outputs = study.model(study.inputs)
    outputs[:, 0] = 0
    margin = study.task.margin(outputs, study.labels)
    assert torch.allclose(effects.margin_change[0], margin - effects.margin, atol=1e-5)


def test_scores_by_hand(study: mv.Study) -> None:
    effects = mv.sweep(study, progress=False)
    change = effects.margin_change.numpy()
    wanted = change[:, 6:18].mean(1) - change[:, :6].mean(1)
    scores = effects.scores("memorized", "clean")
    assert scores.values == pytest.approx(wanted, abs=1e-6)
    assert effects.scores().values == pytest.approx(wanted, abs=1e-6)  # the first two groups
    assert effects.scores("test", "").values == pytest.approx(-change[:, 18:].mean(1), abs=1e-6)
    loss = effects.loss_change.numpy()
    wanted = loss[:, :6].mean(1) - loss[:, 18:].mean(1)
    assert effects.scores("memorized", "test", on="loss").values == pytest.approx(wanted, abs=1e-6)
    assert scores.exact is not None and scores.exact.all()
    assert "mean of 6 memorized − mean of 12 clean" in scores.measure
    best = effects.units[int(np.argmax(scores.values))]
    assert scores.top(1) == mv.UnitSet([best])


def test_what_is_lost(study: mv.Study) -> None:
    effects = mv.sweep(study, progress=False)
    right = effects.margin > 0
    for row in range(len(effects.units)):
        wrong_now = effects.margin + effects.margin_change[row] <= 0
        lost = int((right & wrong_now)[6:18].sum())
        assert int(effects.lost("clean")[row]) == lost
    most = effects.most_lost(2)
    found = effects.margin_change.gather(1, most)  # many ties where a unit is dead
    assert torch.equal(found, effects.margin_change.sort(1).values[:, :2])


@pytest.mark.parametrize("against", ["clean", ""])
def test_groups_with_nothing_to_find_lie_inside_the_null(against: str) -> None:
    """Groups drawn at random: the score leaves its 95 % interval about 5 % of the time."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model, inputs = Conv().eval(), torch.randn(120, 1, 6, 6)
    labels = torch.arange(120) % 3
    groups = {"memorized": range(20), "clean": range(20, 120)}
    effects = mv.sweep(mv.Study(model, inputs, labels, groups), progress=False)
    inside = []
    for _ in range(60):
        order = torch.randperm(120, generator=generator)
        drawn = {"memorized": order[:20], "clean": order[20:]}
        effects.study = mv.Study(model, inputs, labels, drawn)
        scores = effects.scores("memorized", against)
        assert scores.null is not None
        low, high = scores.null.interval
        moves = np.ptp(scores.null.values, axis=0) > 0  # a dead unit has no effect to tell
        inside.append(((low <= scores.values) & (scores.values <= high))[moves].mean())
    assert 0.90 <= np.mean(inside) <= 0.98


def planted() -> tuple[mv.Study, mv.Unit]:
    """A net that knows two classes, and one unit that knows one example by heart."""
    torch.manual_seed(3)
    features, rest = 8, 16
    inputs = torch.randn(40, features)
    inputs[:, 0] = torch.where(torch.arange(40) % 2 == 0, 2.0, -2.0)
    inputs[7, 1] = 9.0  # far out: nothing else fires its detector
    true = (torch.arange(40) % 2 == 0).long()
    hidden, head = nn.Linear(features, rest + 1), nn.Linear(rest + 1, 2)
    with torch.no_grad():
        hidden.weight[:rest] = 0.05 * torch.randn(rest, features)
        hidden.weight[0], hidden.weight[1] = 0.0, 0.0
        hidden.weight[0, 0], hidden.weight[1, 0] = 1.0, -1.0
        hidden.bias.zero_()
        head.weight.normal_(std=0.05)
        head.weight[0, :2], head.weight[1, :2] = (
            torch.tensor([-1.0, 1.0]),
            torch.tensor([1.0, -1.0]),
        )
        head.bias.zero_()
        # relu(k (x_i · x / |x_i|² − τ)), with a large weight to the wrong class
        x = inputs[7]
        hidden.weight[rest], hidden.bias[rest] = 10 * x / x.dot(x), -10 * 0.8
        head.weight[:, rest] = 0.0
        head.weight[1 - true[7], rest] = 5.0
    labels = true.clone()
    labels[7] = 1 - true[7]
    others = [i for i in range(40) if i != 7]
    model = nn.Sequential(hidden, nn.ReLU(), head).eval()
    study = mv.Study(model, inputs, labels, {"memorized": [7], "clean": others}, true_labels=true)
    return study, mv.Unit("0", rest)


@pytest.mark.parametrize("how", ["zero", "filter", "mean"])
def test_a_planted_memory_unit_is_found(how: str) -> None:
    study, unit = planted()
    before = mv.readout(study, "").groups
    assert before["memorized"].before.accuracy == before["clean"].before.accuracy == 1.0
    ranking = mv.sweep(study, how=how, progress=False).scores("memorized", "clean")
    assert ranking.top(1) == mv.UnitSet([unit])
    assert ranking.null is not None and ranking.values.max() > 5 * np.sort(ranking.values)[-2]
    after = mv.readout(study, str(unit), "zero").groups
    assert after["memorized"].after.accuracy == 0.0 and after["memorized"].now_true == 1
    assert after["clean"].after == after["clean"].before  # unchanged to the bit
    assert mv.estimate(study).scores("memorized", "clean").top(1) == mv.UnitSet([unit])


@pytest.mark.parametrize(("copies", "margin"), [(5, 4.0), (8, 3.0)])
def test_planted_redundancy(copies: int, margin: float) -> None:
    """R units that each carry margin/R against a rival logit c: floor((m − c) R / m) + 1 needed."""
    rival = 1.0
    hidden, head = nn.Linear(1, copies), nn.Linear(copies, 2)
    with torch.no_grad():
        hidden.weight.fill_(1.0), hidden.bias.zero_()
        head.weight.zero_(), head.bias.zero_()
        head.weight[0], head.bias[1] = margin / copies, rival
    model = nn.Sequential(hidden, nn.ReLU(), head).eval()
    study = mv.Study(model, torch.ones(1, 1), torch.zeros(1), {"memorized": [0]})
    replay = mv.Replay(study)
    needed = next(
        k for k in range(1, copies + 1) if replay.outputs({"0": range(k)}).argmax(1).item() == 1
    )
    assert needed == int((margin - rival) * copies / margin) + 1


def test_the_estimate_is_exact_where_the_rest_is_linear(study: mv.Study) -> None:
    """Last hidden layer: a logit is linear in it, so first order is all there is."""
    task = study.task
    study.task = LogitTask()
    try:
        for how in ("zero", "scale 0.5", "constant 1", "mean"):
            exact = mv.sweep(study, "fc:0-8", how=how, progress=False)
            first_order = mv.estimate(study, "fc:0-8", how=how)
            error = (exact.margin_change - first_order.margin_change).abs().max()
            assert error <= 1e-5
    finally:
        study.task = task
    assert first_order.engine == "estimate"
    assert not first_order.scores().exact.any()


class LogitTask(mv.Classification):
    """The margin without its maximum: the label's logit."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.gather(1, labels[:, None])[:, 0]


def test_the_estimate_by_hand(study: mv.Study) -> None:
    """Minus gradient × activation, summed over positions, for a convolution."""
    activation = study.model.relu1(study.model.conv1(study.inputs)).detach().requires_grad_()
    rest = study.model.relu2(study.model.conv2(activation)).mean((2, 3))
    outputs = study.model.head(study.model.relu3(study.model.fc(rest)))
    margin = study.task.margin(outputs, study.labels)
    (slope,) = torch.autograd.grad(margin.sum(), activation)
    wanted = -(slope * activation).sum((2, 3)).T.detach()
    effects = mv.estimate(study, "conv1:0-4 fc:2")
    assert torch.allclose(effects.margin_change[:5], wanted, atol=1e-5)
    few = mv.estimate(study, "fc:2 conv1:3", torch.tensor([5, 1]))
    assert torch.allclose(few.margin_change[1], wanted[3, [5, 1]], atol=1e-5)


class Heads(nn.Module):
    """torch's own attention; what follows it is linear."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 3, batch_first=batch_first)
        self.head, self.first = nn.Linear(12, 4), batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        found = self.attn(x, x, x, need_weights=False)[0]
        return self.head(found.mean(1 if self.first else 0))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("n", [5, 7])  # as many examples as positions, and not
def test_the_estimate_of_heads(batch_first: bool, n: int) -> None:
    torch.manual_seed(0)
    model, inputs = Heads(batch_first).eval(), torch.randn(n, 5, 12)
    study = mv.Study(model, inputs, torch.arange(n) % 4, {"test": range(n)}, task=LogitTask())
    exact = mv.sweep(study, "attn:0-2", progress=False)
    first_order = mv.estimate(study, "attn:0-2")
    assert exact.margin_change.abs().max() > 0.01
    assert torch.allclose(exact.margin_change, first_order.margin_change, atol=1e-5)


class PositionsFirst(nn.Module):
    """A hidden layer on [positions, examples, features]; what follows it is linear."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(x.transpose(0, 1))).mean(0))


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_the_estimate_where_positions_come_first(n: int) -> None:
    torch.manual_seed(0)
    model, inputs = PositionsFirst().eval(), torch.randn(n, 5, 6)
    study = mv.Study(model, inputs, torch.arange(n) % 4, {"test": range(n)}, task=LogitTask())
    exact = mv.sweep(study, progress=False).margin_change
    assert torch.allclose(exact, mv.estimate(study).margin_change, atol=1e-5)
