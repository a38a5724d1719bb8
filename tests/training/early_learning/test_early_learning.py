"""Losses against wrong labels: closed forms, an independent gradient, and what is kept."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from memviz.training.early_learning import (
    CLAMP,
    ELR,
    GCE,
    Bootstrap,
    ForwardCorrection,
    MeanOfTwo,
    Mixed,
    SymmetricCrossEntropy,
    mixed_loss,
    mixup,
    stopping_epoch,
    symmetric_transition,
    train_two,
    weight_average,
)
from memviz.training.loop import train


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.tensor([0, 3, 1, 1, 2, 0]), torch.arange(6) * 7


def test_the_gradient_is_that_of_lemma_2(batch):
    logits, labels, indices = batch
    loss = ELR(50, 4, weight=3.0, beta=0.7).double()
    loss.targets = torch.rand(50, 4, dtype=torch.float64).softmax(1)
    value = loss(logits, labels, indices)
    (slope,) = torch.autograd.grad(value, logits)
    p, t = logits.detach().softmax(1), loss.targets[indices]
    agreement = (p * t).sum(1, keepdim=True)
    g = p * (agreement - t) / (1 - agreement)
    expected = (p - torch.eye(4)[labels] + 3.0 * g) / 6
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-14)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 0.99), st.integers(1, 6), st.data())
def test_targets_are_the_closed_form_of_what_was_predicted(beta, visits, draw):
    loss = ELR(5, 3, beta=beta).double()
    history = []
    for _ in range(visits):
        logits = torch.tensor(
            [draw.draw(st.lists(st.floats(-20, 20), min_size=3, max_size=3))], dtype=torch.float64
        )
        p = logits.softmax(1).clamp(CLAMP, 1 - CLAMP)
        history.append(p / p.sum())
        loss(logits, torch.tensor([0]), torch.tensor([4]))
    powers = [(1 - beta) * beta ** (visits - 1 - k) for k in range(visits)]
    expected = sum(w * p for w, p in zip(powers, history, strict=True))
    torch.testing.assert_close(loss.targets[4:], expected, rtol=1e-10, atol=1e-12)
    assert (loss.targets[:4] == 0).all()


def test_the_target_moves_before_the_loss_and_is_a_constant(batch):
    logits, labels, indices = batch
    loss = ELR(50, 4, weight=1.0, beta=0.7)
    value = loss(logits, labels, indices)
    p = logits.detach().softmax(1)
    expected = cross_entropy(logits, labels) + (1 - 0.3 * (p * p).sum(1)).log().mean()
    torch.testing.assert_close(value, expected)
    assert not loss.targets.requires_grad
    before = loss.targets.clone()
    loss.eval()(logits, labels, indices)
    assert torch.equal(loss.targets, before)


def test_without_weight_it_is_cross_entropy_bit_by_bit(batch):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 6, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    call = {"epochs": 3, "batch_size": 16, "progress": False}
    first = nn.Linear(6, 3)
    second = copy.deepcopy(first)
    train(first, inputs, labels, **call)
    train(second, inputs, labels, **call, loss=ELR(40, 3, weight=0.0))
    assert torch.equal(first.weight, second.weight)


def test_the_term_is_bounded_where_prediction_and_target_are_certain():
    loss = ELR(1, 3, weight=1.0, beta=0.0)
    logits = torch.tensor([[80.0, 0.0, 0.0]], requires_grad=True)
    value = loss(logits, torch.tensor([0]), torch.tensor([0]))
    # p = t = 1 - 1e-4 but for the renormalization.
    assert math.log(1e-4) <= value.item() < math.log(4e-4)
    (slope,) = torch.autograd.grad(value, logits)
    assert slope.abs().max() < 1e-6  # the clamp ends the pull


def test_the_order_of_the_batches_does_not_change_the_targets_of_a_frozen_net():
    net, inputs = nn.Linear(6, 3), torch.randn(20, 6)
    found = []
    for order in (torch.arange(20), torch.randperm(20)):
        loss = ELR(20, 3)
        for _ in range(3):
            for part in order.split(7):
                loss(net(inputs[part]), torch.zeros(len(part), dtype=torch.long), part)
        found.append(loss.targets)
    torch.testing.assert_close(*found)


def test_targets_are_saved_with_the_state_and_with_an_interrupted_training(tmp_path):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 6, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    call = {"epochs": 4, "batch_size": 16, "seed": 1, "progress": False}

    def stop(epoch, model):
        if epoch == 3:
            raise KeyboardInterrupt

    def net():
        torch.manual_seed(0)
        return nn.Linear(6, 3)

    whole, expected = net(), ELR(40, 3)
    train(whole, inputs, labels, **call, loss=expected)
    with pytest.raises(KeyboardInterrupt):
        train(net(), inputs, labels, **call, loss=ELR(40, 3), folder=tmp_path, on_epoch=stop)
    again, loss = net(), ELR(40, 3)
    train(again, inputs, labels, **call, loss=loss, folder=tmp_path)
    assert torch.equal(loss.targets, expected.targets)
    assert torch.equal(again.weight, whole.weight)
    copied = ELR(40, 3)
    copied.load_state_dict(loss.state_dict())
    assert torch.equal(copied.targets, loss.targets)
    with pytest.raises(ValueError, match=r"it has loss ELR\(.*weight=3.0.*, not ELR\(.*weight=1.0"):
        train(net(), inputs, labels, **call, loss=ELR(40, 3, weight=1.0), folder=tmp_path)


def test_bad_settings_and_indices_get_one_clear_sentence(batch):
    logits, labels, indices = batch
    for wrong in ({"weight": -1.0}, {"beta": 1.0}, {"examples": 0}, {"classes": 1}):
        with pytest.raises(ValueError, match="ELR takes at least 1 example and 2 classes"):
            ELR(**{"examples": 3, "classes": 3, **wrong})
    with pytest.raises(ValueError, match="run from 0 to 35, and there are targets of 0 to 34"):
        ELR(35, 4)(logits, labels, indices)
    with pytest.raises(ValueError, match="beta must lie between 0 and 1"):
        Bootstrap(1.1)
    with pytest.raises(ValueError, match="rows are probabilities"):
        ForwardCorrection(torch.ones(3, 3))
    with pytest.raises(ValueError, match="rows are probabilities"):
        ForwardCorrection(torch.ones(3, 2) / 2)
    with pytest.raises(ValueError, match="q must lie above 0"):
        GCE(0.0)
    with pytest.raises(ValueError, match="alpha and beta must be 0 or more"):
        SymmetricCrossEntropy(-1.0)
    with pytest.raises(ValueError, match="rate must lie between 0 and 1"):
        symmetric_transition(3, 1.5)


def test_each_loss_equals_its_formula_written_out(batch):
    logits, labels, indices = batch
    p = logits.detach().softmax(1).tolist()
    y = labels.tolist()
    t = symmetric_transition(4, 0.3).tolist()
    best = [row.index(max(row)) for row in p]

    def mean(term):
        return sum(term(i) for i in range(6)) / 6

    written = [
        (GCE(0.7), lambda i: (1 - p[i][y[i]] ** 0.7) / 0.7),
        (GCE(1e-9), lambda i: -math.log(p[i][y[i]])),
        (
            SymmetricCrossEntropy(0.1, 1.0),
            # The reverse cross-entropy with log 0 = -4 over the other classes, log 1 = 0.
            lambda i: -0.1 * math.log(p[i][y[i]]) + 4 * sum(p[i][: y[i]] + p[i][y[i] + 1 :]),
        ),
        (
            ForwardCorrection(symmetric_transition(4, 0.3)),
            lambda i: -math.log(sum(p[i][k] * t[k][y[i]] for k in range(4))),
        ),
        (ForwardCorrection(torch.eye(4)), lambda i: -math.log(p[i][y[i]])),
        (
            Bootstrap(0.8),
            lambda i: -0.8 * math.log(p[i][y[i]]) - 0.2 * math.log(p[i][best[i]]),
        ),
        (
            Bootstrap(0.95, soft=True),
            lambda i: -0.95 * math.log(p[i][y[i]]) - 0.05 * sum(q * math.log(q) for q in p[i]),
        ),
    ]
    for loss, term in written:
        assert loss(logits, labels, indices).item() == pytest.approx(mean(term), rel=1e-6), loss


def test_the_networks_own_prediction_is_a_constant_in_bootstrap(batch):
    logits, labels, indices = batch
    (slope,) = torch.autograd.grad(Bootstrap(0.0, soft=True)(logits, labels, indices), logits)
    # Cross-entropy with p itself as a constant target has no gradient.
    assert slope.abs().max() < 1e-15


def test_stopping_keeps_the_first_best_epoch():
    curve = torch.tensor([0.2, 0.6, 0.5, 0.6, 0.55, 0.9])
    assert stopping_epoch(curve) == 6
    assert stopping_epoch(curve, patience=3) == 2
    assert stopping_epoch(curve, patience=4) == 6
    for wrong in (torch.zeros(0), torch.zeros(2, 2), torch.tensor([0.1, math.nan])):
        with pytest.raises(ValueError, match="a number for each epoch"):
            stopping_epoch(wrong)
    with pytest.raises(ValueError, match="patience must be at least 1"):
        stopping_epoch(curve, patience=0)


def test_mixup_mixes_all_in_one_order_and_keeps_the_larger_share():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    x, shares = torch.randn(8, 3, generator=generator), []
    for _ in range(400):
        mixed = mixup(x, generator)
        shares.append(mixed.share)
        assert torch.equal(mixed.order.sort().values, torch.arange(8))
        expected = mixed.share * x + (1 - mixed.share) * x[mixed.order]
        torch.testing.assert_close(mixed.inputs, expected)
        torch.testing.assert_close(mixed.mix(x), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0.5 <= min(shares) and max(shares) <= 1
    # The larger part of a uniform share is uniform on [.5, 1].
    assert sum(shares) / 400 == pytest.approx(0.75, abs=3 * 0.5 / math.sqrt(12 * 400))
    with pytest.raises(ValueError, match="alpha must be above 0"):
        mixup(x, generator, alpha=0.0)


def test_weights_are_averaged_with_a_ramp():
    model = nn.BatchNorm1d(1)
    average = weight_average(model, decay=0.9, ramp_steps=4)
    expected, values = 0.0, [3.0, 1.0, -2.0, 5.0, 0.5, 4.0]
    for step, value in enumerate(values):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        average.update_parameters(model)
        done = min(step, 4) / 4
        decay = 0.9 * math.exp(-5 * (1 - done) ** 2) if step else 0.0
        expected = decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
        assert average.module.running_mean.item() == value
    with pytest.raises(ValueError, match="decay lies from 0 to below 1"):
        weight_average(model, decay=1.0)


def test_a_mixed_loss_without_mixing_is_elr(batch):
    logits, labels, indices = batch
    plain, other = ELR(50, 4).double(), ELR(50, 4).double()
    other.update(logits, indices)
    whole = Mixed(torch.zeros(6, 1), torch.arange(6).flip(0), 1.0)
    torch.testing.assert_close(
        mixed_loss(other, logits, labels, indices, whole), plain(logits, labels, indices)
    )
    half = Mixed(torch.zeros(6, 1), torch.arange(6).flip(0), 0.5)
    given = (torch.eye(4)[labels] + torch.eye(4)[labels.flip(0)]) / 2
    targets = (other.of(indices) + other.of(indices.flip(0))) / 2
    p = logits.softmax(1)
    expected = -(given * p.log()).sum(1).mean() + 3 * (1 - (p * targets).sum(1)).log().mean()
    torch.testing.assert_close(mixed_loss(other, logits, labels, indices, half), expected)


def test_each_of_two_networks_gets_its_targets_from_the_other():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 6, generator=generator)
    labels = torch.randint(0, 3, (30,), generator=generator)
    models, losses = (nn.Linear(6, 3), nn.Linear(6, 3)), (ELR(30, 3), ELR(30, 3))
    start = [model(inputs).softmax(1).detach() for model in models]
    both, run = train_two(
        models,
        inputs,
        labels,
        losses,
        examples=torch.arange(20),
        epochs=1,
        batch_size=20,
        progress=False,
    )
    for k in (0, 1):
        torch.testing.assert_close(losses[k].targets[:20], 0.3 * start[1 - k][:20])
        assert (losses[k].targets[20:] == 0).all()
    assert run.predictions.shape == (1, 30)
    with torch.no_grad():
        answers = [average(inputs).softmax(1) for average in (both.first, both.second)]
        torch.testing.assert_close(both(inputs).exp(), (answers[0] + answers[1]) / 2)
    assert torch.equal(run.predictions[0], (answers[0] + answers[1]).argmax(1).int())
    assert isinstance(both, MeanOfTwo)


def test_two_networks_with_dropout_are_the_same_for_the_same_seed() -> None:
    inputs = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(30) % 3

    def run(state: int, seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        models = tuple(nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.4)) for _ in range(2))
        losses = (ELR(30, 3), ELR(30, 3))
        torch.manual_seed(state)
        both, _ = train_two(models, inputs, labels, losses, epochs=3, batch_size=8, seed=seed,
                            progress=False)  # fmt: skip
        return both.state_dict()

    one, again, other = run(0, 5), run(1, 5), run(0, 6)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_elr_is_finite_in_half_precision(dtype: torch.dtype, autocast: bool) -> None:
    torch.manual_seed(0)
    logits = (40 * torch.eye(4)).to(dtype)  # sure of itself: p is clamped to 1 - 1e-4
    labels = ids = torch.arange(4)
    halved, single = ELR(4, 4), ELR(4, 4)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        for _ in range(20):
            value = halved(logits, labels, ids)
    for _ in range(20):
        expected = single(logits.float(), labels, ids)
    assert value.isfinite() and torch.allclose(value.float(), expected, rtol=1e-5)
    assert halved.targets.dtype == torch.float32 and torch.equal(halved.targets, single.targets)


def test_gce_tends_to_cross_entropy_for_a_small_q() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(64, 10), torch.arange(64) % 10
    expected = torch.nn.functional.cross_entropy(logits, labels)
    for q in (1e-4, 1e-6, 1e-8):
        assert torch.allclose(GCE(q)(logits, labels, labels), expected, rtol=5 * q + 1e-6)
