"""Gradient accounting: both parts add up, a closed form, its null, and through a training."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import memviz as mv
from memviz.probes.localization import (
    EpochGradients,
    gradient_accounting,
    layer_groups,
    subset_gradients,
)
from memviz.training.loop import train


def net(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A batch norm mixes the examples, so that parts of a batch are not batches."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(64, 3)).to(dtype)


def data(n: int = 20, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 1, 6, 6, generator=generator, dtype=dtype)
    return x, torch.arange(n) % 3, torch.arange(n) < n // 5


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True))


@given(st.integers(0, 2**31), st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_clean_and_noisy_add_up_to_the_batch(seed: int, marked: int) -> None:
    model, (x, y, _) = net(seed).train(), data()
    noisy = torch.randperm(20, generator=torch.Generator().manual_seed(seed)) < marked
    outputs = model(x)
    losses = cross_entropy(outputs, y, reduction="none")
    clean, bad = subset_gradients(losses, noisy, list(model.parameters()))
    whole = gradients(model, cross_entropy(outputs, y))
    for a, b, all_of_it in zip(clean, bad, whole, strict=True):
        assert torch.allclose(a + b, all_of_it, rtol=0, atol=1e-12)
    for part, mask in ((clean, ~noisy), (bad, noisy)):  # the sheet's own words
        if mask.any():
            mean = gradients(model, cross_entropy(outputs[mask], y[mask]))
            share = mask.double().mean()
            for mine, its in zip(part, mean, strict=True):
                assert torch.allclose(mine, share * its, rtol=0, atol=1e-12)
        else:
            assert not any(g.any() for g in part)


def test_in_single_precision_they_add_up_to_a_millionth() -> None:
    model, (x, y, noisy) = net(dtype=torch.float32).train(), data(dtype=torch.float32)
    outputs = model(x)
    losses = cross_entropy(outputs, y, reduction="none")
    parts = subset_gradients(losses, noisy, list(model.parameters()))
    for a, b, all_of_it in zip(*parts, gradients(model, losses.mean()), strict=True):
        assert float((a + b - all_of_it).abs().max()) < 1e-6


def test_a_part_without_loss_adds_nothing() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    losses = weight * torch.tensor([1.0, 0.0, 3.0])
    clean, noisy = subset_gradients(losses, torch.tensor([False, True, False]), [weight])
    assert noisy[0].item() == 0
    assert clean[0].item() == pytest.approx(4 / 3)


def one_epoch(model: nn.Module, batches: list[Tensor], step: float = 0.0) -> EpochGradients:
    x, y, noisy = data()
    loss = EpochGradients(model, noisy, null_draws=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=step or 1.0)
    for ids in batches:
        optimizer.zero_grad()
        loss(model(x[ids]), y[ids], ids).backward()
        if step:
            optimizer.step()
    loss.end_epoch(1)
    return loss


def test_an_epoch_is_the_norm_and_cosine_of_the_summed_parts_while_weights_move() -> None:
    batches = list(torch.randperm(20, generator=torch.Generator().manual_seed(3)).split(7))
    found = one_epoch(net().train(), batches, step=0.1).result()
    # The slow way: plain autograd on the losses of each part, the same steps.
    model, (x, y, noisy) = net().train(), data()
    names = [name for name, _ in model.named_parameters()]
    sums = {part: [torch.zeros_like(p) for p in model.parameters()] for part in (False, True)}
    for ids in batches:
        losses = cross_entropy(model(x[ids]), y[ids], reduction="none")
        for part, total in sums.items():
            mask = noisy[ids] == part
            value = losses[mask].sum() / len(ids)
            for old, new in zip(total, gradients(model, value), strict=True):
                old += new
        whole = gradients(model, losses.mean())
        with torch.no_grad():
            for parameter, slope in zip(model.parameters(), whole, strict=True):
                parameter -= 0.1 * slope
    for place, group in enumerate(layer_groups(model)):
        mine = [names.index(name) for name in group.parameters]
        for part, table in ((False, found.clean), (True, found.noisy)):
            norm = sum(float(sums[part][k].norm()) / sums[part][k].numel() ** 0.5 for k in mine)
            assert table[0, place] == pytest.approx(norm, rel=1e-9)
        cosines = [
            torch.cosine_similarity(sums[False][k].flatten(), sums[True][k].flatten(), dim=0)
            for k in mine
        ]
        assert found.cosine[0, place] == pytest.approx(float(torch.stack(cosines).mean()), abs=1e-9)


def test_the_order_within_a_batch_changes_nothing() -> None:
    ids = torch.arange(20)
    one = one_epoch(net().train(), [ids]).result()
    other = one_epoch(net().train(), [ids.flip(0)]).result()
    assert np.allclose(one.clean, other.clean, atol=1e-12)
    assert np.allclose(one.noisy, other.noisy, atol=1e-12)


def test_examples_alike_give_the_ratio_of_their_numbers_and_a_cosine_of_one() -> None:
    model = nn.Linear(3, 2)
    loss = EpochGradients(model, torch.arange(10) < 2)
    loss(model(torch.ones(10, 3)), torch.zeros(10, dtype=torch.int64), torch.arange(10))
    loss.end_epoch(0)
    found = loss.result()
    assert found.ratio.item() == pytest.approx(2 / 8, rel=1e-5)
    assert found.cosine.item() == pytest.approx(1, abs=1e-6)
    assert found.share == pytest.approx(0.2)


def test_planted_conflict_is_found_and_random_examples_show_none() -> None:
    """All inputs alike; 10 % of the labels contradict: the balance is where both parts cancel."""
    noisy = torch.arange(100) < 10
    model = nn.Linear(1, 2, bias=False)
    labels = noisy.long()
    with torch.no_grad():  # softmax gives .1 to class 1: the gradient of the batch is 0
        model.weight.copy_(torch.tensor([[np.log(9.0)], [0.0]]))
    loss = EpochGradients(model, noisy, null_draws=20)
    loss(model(torch.ones(100, 1)), labels, torch.arange(100))
    loss.end_epoch(0)
    found = loss.result()
    assert found.ratio.item() == pytest.approx(1, rel=1e-4)
    assert found.cosine.item() == pytest.approx(-1, abs=1e-4)
    assert found.null_noisy.mean() < 0.4 * found.noisy.item()


def test_it_is_a_loss_for_train_and_changes_nothing_about_it() -> None:
    x, y, noisy = data(dtype=torch.float32)
    model, plain = net(dtype=torch.float32), net(dtype=torch.float32)
    loss = EpochGradients(model, noisy)
    about = {"epochs": 3, "batch_size": 8, "seed": 5, "progress": False}
    train(model, x, y, **about, loss=loss, on_epoch=loss.end_epoch)
    train(plain, x, y, **about)
    assert loss.result().epochs == (1, 2, 3)
    for mine, its in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, its, atol=1e-5)


def study(**more: object) -> mv.Study:
    x, y, noisy = data(dtype=torch.float32)
    model = net(dtype=torch.float32).eval()
    groups = {"memorized": noisy[:16], "clean": ~noisy[:16], "test": torch.zeros(16).bool()}
    groups = {
        name: torch.cat([mask, torch.full((4,), name == "test")]) for name, mask in groups.items()
    }
    states = {0: net(1, torch.float32).state_dict(), 2: model.state_dict()}
    return mv.Study(model, x, y, groups, **{"checkpoints": states, **more})


def test_a_study_with_frozen_weights_equals_one_pass_by_hand_and_stays_as_it_was() -> None:
    one = study()
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    state = torch.get_rng_state()
    found = gradient_accounting(one, batch_size=16, null_draws=3, progress=False)
    assert found.epochs == (0, 2)
    assert found.null_cosine.shape == (3, 2, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.model.training
    assert all(torch.equal(before[name], t) for name, t in one.model.state_dict().items())
    model = net(1, torch.float32).train()
    training = one.groups["memorized"] | one.groups["clean"]
    outputs = model(one.inputs[training])
    noisy = one.groups["memorized"][training]
    losses = cross_entropy(outputs, one.labels[training], reduction="none")
    parameters = [dict(model.named_parameters())[name] for name in ("4.weight", "4.bias")]
    parts = subset_gradients(losses, noisy, parameters)
    for part, table in zip(parts, (found.clean, found.noisy), strict=True):
        norm = sum(float(g.norm()) / g.numel() ** 0.5 for g in part)
        assert table[0, 1] == pytest.approx(norm, rel=1e-4)


def test_with_an_optimizer_the_weights_move() -> None:
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.5)

    frozen = gradient_accounting(study(), batch_size=4, null_draws=0, progress=False)
    moving = gradient_accounting(study(), optimizer=sgd, batch_size=4, null_draws=0, progress=False)
    assert not np.allclose(frozen.clean, moving.clean)
    assert "null_ratio" not in frozen.frame
    alone = gradient_accounting(study(), epochs=[2], batch_size=20, null_draws=0, progress=False)
    still = gradient_accounting(
        study(), epochs=[2], optimizer=sgd, batch_size=20, null_draws=0, progress=False
    )
    assert np.array_equal(alone.clean, still.clean)  # one batch: it moves after the last look


def test_frame_figure_and_words() -> None:
    found = gradient_accounting(study(), progress=False)
    assert list(found.frame.columns) == [
        *("epoch", "layer", "clean", "noisy", "ratio", "cosine", "null_ratio", "null_cosine")
    ]
    assert len(found.frame) == 4
    assert found.by_layer["ratio"].tolist() == pytest.approx(
        (found.noisy.mean(0) / found.clean.mean(0)).tolist()
    )
    assert len(found.plot().axes) == 3
    assert "25.0% of the examples are noisy" in repr(found)
    assert "source: Maini" in repr(found)


def test_bad_input_gets_one_sentence() -> None:
    model = nn.Linear(3, 2)
    numbers = torch.tensor([torch.nan, torch.inf, 0.0, 1.0])
    for wrong in (torch.zeros(4), torch.zeros(4).bool(), torch.ones(4).bool(), numbers):
        with pytest.raises(ValueError, match="give a bool mask"):
            EpochGradients(model, wrong)
    loss = EpochGradients(model, torch.arange(4) < 1)
    with pytest.raises(ValueError, match="no epoch has been closed"):
        loss.result()
    with pytest.raises(ValueError, match="ids run from 2 to 4, but noisy covers 4 examples"):
        loss(torch.zeros(2, 2), torch.zeros(2).long(), torch.tensor([2, 4]))
    with pytest.raises(ValueError, match="has no checkpoints"):
        gradient_accounting(study(checkpoints={}))
    with pytest.raises(ValueError, match="no checkpoint of epoch 7; this study has 0, 2"):
        gradient_accounting(study(), epochs=[7])
    with pytest.raises(ValueError, match="another architecture"):
        gradient_accounting(study(checkpoints={0: nn.Linear(2, 2).state_dict()}), progress=False)
    with pytest.raises(ValueError, match="batch_size is -1; give a whole number from 1"):
        gradient_accounting(study(), batch_size=-1)
    losses, noisy = model(torch.ones(2, 3)).sum(1), torch.tensor([True, False])
    with pytest.raises(ValueError, match="parameters is empty; give those that the losses"):
        subset_gradients(losses, noisy, [])
    with pytest.raises(ValueError, match="parameters holds no tensor with a gradient at 1"):
        subset_gradients(losses, noisy, [model.weight, torch.ones(2)])


class WithBias(nn.Module):
    """A convolution whose bias the batch norm takes away: its gradient is 0."""

    def __init__(self, bias: bool, dead: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, bias=bias), nn.BatchNorm2d(4)
        self.head = nn.Linear(64, 3)
        if dead:
            self.conv.register_parameter("unused", nn.Parameter(torch.ones(3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


def accounted(model: nn.Module, orders: list[Tensor]) -> list[np.ndarray]:
    x, y, noisy = data(60, torch.float32)
    tables = []
    for order in orders:
        loss = EpochGradients(model.train(), noisy, null_draws=2)
        for ids in order.split(20):
            loss(model(x[ids]), y[ids], ids)
        loss.end_epoch(1)
        tables.append(loss.result().cosine[0])
    return tables


def test_a_bias_before_a_batch_norm_does_not_enter_the_cosine() -> None:
    """Of 20 orders of the examples within their batches, which change nothing but rounding."""
    model = WithBias(bias=True)
    plain = WithBias(bias=False)
    plain.load_state_dict(model.state_dict(), strict=False)
    batches = torch.arange(60).view(3, 20)
    generator = torch.Generator().manual_seed(0)
    orders = [
        torch.cat([batch[torch.randperm(20, generator=generator)] for batch in batches])
        for _ in range(20)
    ]
    (wanted,) = accounted(plain, orders[:1])
    for found in accounted(model, orders):
        assert found == pytest.approx(wanted, abs=1e-4)


def test_a_dead_tensor_leaves_its_groups_cosine_alone() -> None:
    torch.manual_seed(0)
    plain, model = WithBias(bias=False), WithBias(bias=False, dead=True)
    model.load_state_dict(plain.state_dict(), strict=False)
    orders = [torch.arange(60)]
    assert accounted(model, orders)[0] == pytest.approx(accounted(plain, orders)[0], abs=1e-6)


def test_a_group_without_any_gradient_has_no_cosine_and_no_ratio() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2)})
    loss = EpochGradients(model, torch.arange(10) < 2)
    torch.manual_seed(0)
    loss(model["used"](torch.randn(10, 3)), torch.arange(10) % 2, torch.arange(10))
    loss.end_epoch(0)
    found = loss.result()
    assert np.isfinite(found.cosine[0, 0]) and np.isnan(found.cosine[0, 1])
    assert np.isnan(found.ratio).tolist() == [False, True]
    assert np.isnan(found.frame["ratio"]).tolist() == [False, True]


@pytest.mark.parametrize("batch_size", [5, 13, 16])
def test_with_frozen_weights_a_small_last_batch_counts_by_its_size(batch_size: int) -> None:
    """Without a batch norm, the gradient of all examples, whatever the batches."""
    x, y, noisy = data(16, torch.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3))
    one = mv.Study(
        model.eval(), x, y, {"memorized": noisy, "clean": ~noisy},
        checkpoints={1: model.state_dict()},
    )  # fmt: skip
    wanted = gradient_accounting(one, batch_size=16, null_draws=2, progress=False)
    found = gradient_accounting(one, batch_size=batch_size, null_draws=2, progress=False)
    assert found.ratio == pytest.approx(wanted.ratio, rel=1e-4)
    assert found.null_ratio == pytest.approx(wanted.null_ratio, rel=1e-4)
    assert found.cosine == pytest.approx(wanted.cosine, abs=1e-4)


def test_wrong_ids_and_draws() -> None:
    loss = EpochGradients(nn.Linear(3, 2), torch.arange(4) < 1)
    for ids in (torch.tensor([0.0, 1.0]), torch.tensor([True, False]), torch.tensor([0])):
        with pytest.raises(ValueError, match=r"ids is .* for 2 labels; give each example's index"):
            loss(torch.zeros(2, 2), torch.zeros(2).long(), ids)
    with pytest.raises(ValueError, match="null_draws is -1; give at least 0"):
        EpochGradients(nn.Linear(3, 2), torch.arange(4) < 1, null_draws=-1)


def test_accounting_with_dropout_is_the_same_for_the_same_seed() -> None:
    x, y, noisy = data()
    model = nn.Sequential(*net()[:4], nn.Dropout(0.4), *net()[4:]).eval()
    states = {epoch: model.state_dict() for epoch in (1, 2)}
    groups = {"noisy": noisy, "clean": ~noisy}
    study = mv.Study(model, x, y, groups, checkpoints=states)

    def clean(state: int, seed: int) -> np.ndarray:
        torch.manual_seed(state)
        before = torch.get_rng_state()
        found = gradient_accounting(study, batch_size=20, seed=seed, progress=False)
        assert torch.equal(torch.get_rng_state(), before)
        return found.clean

    assert np.array_equal(clean(0, 5), clean(1, 5))
    assert not np.array_equal(clean(0, 5), clean(0, 6))


def test_an_epoch_does_not_depend_on_which_others_are_asked_for() -> None:
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    made = study()
    account = partial(gradient_accounting, made, batch_size=4, optimizer=sgd, progress=False)
    whole, last = account(), max(made.checkpoints)
    alone = account(epochs=[last])
    assert np.array_equal(alone.clean[-1], whole.clean[-1])
    assert np.array_equal(alone.noisy[-1], whole.noisy[-1])
