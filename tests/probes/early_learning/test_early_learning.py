"""Early learning: fractions of planted predictions, the planted linear model, and its theorem."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from memviz.models.planted_linear import gradient_descent, planted_linear
from memviz.probes.early_learning import detected_as_wrong, three_way
from memviz.training.early_learning import ELR
from memviz.training.loop import train

TRUE = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
GIVEN = torch.tensor([0, 1, 2, 1, 0, 0, 0, 2])  # wrong: 3, 4, 5, 7


def test_fractions_of_planted_predictions():
    predicted = torch.stack(
        [
            TRUE,
            GIVEN,
            torch.tensor([0, 2, 2, 2, 2, 1, 2, 1]),  # wrong ones all of the third class
            torch.tensor([0, 1, 2, 0, 0, 1, 0, 0]),
        ]
    )
    found = three_way(predicted, GIVEN, TRUE)
    assert found.wrong.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, 0.25]]
    assert found.clean.tolist() == [[1, 0, 0], [1, 0, 0], [0.5, 0, 0.5], [1, 0, 0]]
    assert found.peak == 1
    assert found.sizes == (4, 4)
    some = three_way(predicted, GIVEN, TRUE, torch.tensor([0, 3, 4]))
    assert some.wrong[3].tolist() == [0.5, 0.5, 0]


def test_the_frame_is_tidy_and_has_the_null_beside():
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 3, (5, 8), generator=rng) for _ in range(2))
    found = three_way(first, GIVEN, TRUE, null=second)
    frame = found.frame
    assert list(frame) == ["epoch", "labels", "predicted", "fraction", "null"]
    assert len(frame) == 5 * 2 * 3
    sums = frame.groupby(["epoch", "labels"])[["fraction", "null"]].sum()
    np.testing.assert_allclose(sums, 1)
    for column, predictions in (("fraction", first), ("null", second)):
        rows = frame[(frame.epoch == 4) & (frame.labels == "wrong")].set_index("predicted")
        wrong = GIVEN != TRUE
        expected = (predictions[3] == GIVEN)[wrong].double().mean()
        assert rows[column]["memorized"] == pytest.approx(float(expected))
    assert "null, cross-entropy: wrong labels predicted true" in repr(found)
    assert frame.attrs["source"].startswith("Liu et al. 2020")


def test_bad_input_gets_one_clear_sentence():
    predicted = torch.zeros(2, 8)
    with pytest.raises(ValueError, match=r"shape \[2, 7\] for 8 labels"):
        three_way(predicted[:, :7], GIVEN, TRUE)
    with pytest.raises(ValueError, match="8 labels and 7 true labels"):
        three_way(predicted, GIVEN, TRUE[:7])
    with pytest.raises(ValueError, match=r"true_labels has shape \[\]; give whole numbers, \[n\]"):
        three_way(predicted, GIVEN, TRUE[0])
    with pytest.raises(ValueError, match=r"labels has shape \[8, 1\]; give whole numbers"):
        detected_as_wrong(torch.ones(8, 3), GIVEN[:, None])
    with pytest.raises(ValueError, match="0 of the examples have a wrong label and 8 a right one"):
        three_way(predicted, TRUE, TRUE)
    with pytest.raises(ValueError, match="the null has 1 epochs and the run 2"):
        three_way(predicted, GIVEN, TRUE, null=predicted[:1])
    with pytest.raises(ValueError, match="5 targets and 8 labels"):
        detected_as_wrong(torch.ones(5, 3), GIVEN)
    with pytest.raises(ValueError, match="example 6 has no target: it was never trained on"):
        detected_as_wrong((torch.arange(8) != 6).float()[:, None].expand(8, 3), GIVEN)


def test_detection_is_above_zero_exactly_where_the_target_is_another_class():
    targets = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    labels = torch.arange(500) % 4
    scores = detected_as_wrong(targets, labels, null_targets=torch.eye(4)[labels])
    np.testing.assert_array_equal(scores.values > 0, (targets.argmax(1) != labels).numpy())
    assert (scores.null.values == -1).all()
    chosen = torch.tensor([7, 3])
    some = detected_as_wrong(targets, labels, chosen)
    assert some.examples.tolist() == [7, 3]
    np.testing.assert_array_equal(some.values, scores.values[[7, 3]])


SEEDS = range(2)


@pytest.fixture(scope="module")
def linear():
    steps = (0, *range(1, 40), 100, 1000, 5000)
    return [(planted_linear(seed=s), gradient_descent(planted_linear(seed=s), steps, seed=100 + s))
            for s in SEEDS]  # fmt: skip


def test_the_linear_model_learns_the_truth_and_then_memorizes_all(linear):
    for data, run in linear:
        assert data.wrong.double().mean().item() == pytest.approx(0.2, abs=3 * 0.02)
        assert run.wrong_true.max() > 0.98  # Theorem 1: above .9999 as sigma goes to 0
        assert run.wrong_true[-1] == 0 and run.wrong_memorized[-1] == 1
        assert run.clean_right[-1] == 1
        peak = int(run.wrong_true.argmax())
        # By then coefficients of clean examples fell and those of wrong ones rose, by .05 or more.
        assert run.clean_coefficient[peak] < run.clean_coefficient[0] - 0.05
        assert run.wrong_coefficient[peak] > run.wrong_coefficient[0] + 0.05
        assert run.wrong_coefficient[-1] < 0.2
        # The weights turn towards the direction first, and away when they memorize.
        assert run.cosine[peak] > max(run.cosine[0], run.cosine[-1])
        torch.testing.assert_close(run.wrong_true + run.wrong_memorized, torch.ones(43).double())


def test_without_redrawn_labels_nothing_is_memorized_late():
    """The null: with all labels right there is no wrong example to lose."""
    with pytest.raises(ValueError, match="needs both wrong and right labels"):
        gradient_descent(planted_linear(redrawn=0.0))
    data = planted_linear(redrawn=0.0)
    weights = data.inputs.T @ data.labels
    assert bool(((data.inputs @ weights).sign() == data.true_labels).all())


def test_descent_equals_autograd_on_two_logits():
    data = planted_linear(40, 30, seed=1)
    run = gradient_descent(data, keep=(3,), learning_rate=0.5, seed=2)
    draw = torch.Generator().manual_seed(2)
    theta = torch.randn(30, generator=draw, dtype=torch.float64)
    theta = (2 * theta / theta.norm()).requires_grad_()
    for _ in range(3):
        output = data.inputs @ theta
        logits = torch.stack([-output, output], 1)
        loss = nn.functional.cross_entropy(logits, (data.labels > 0).long())
        (slope,) = torch.autograd.grad(loss, theta)
        # Both logits share the weights, so the loss of one of them has half this gradient.
        theta = (theta - 0.5 * slope / 2).detach().requires_grad_()
    cosine = theta @ data.direction / theta.norm()
    assert run.cosine.item() == pytest.approx(cosine.item(), rel=1e-12)
    with pytest.raises(ValueError, match="keep must name at least one step"):
        gradient_descent(data, keep=())
    with pytest.raises(ValueError, match="n and features must be at least 2"):
        planted_linear(1)


def test_a_trained_linear_layer_shows_it_and_elr_keeps_the_truth():
    """The whole way: the loop records, the probe reads, and ELR memorizes less than its null."""
    data = planted_linear(200, 180, seed=0)
    labels, truth = ((y > 0).long() for y in (data.labels, data.true_labels))
    found = {}
    for weight in (0.0, 3.0):
        model = nn.Linear(180, 2).double()
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        loss = ELR(200, 2, weight=weight).double()
        run = train(
            model, data.inputs, labels, epochs=300, batch_size=200, learning_rate=1.0,
            weight_decay=0.0, loss=loss, progress=False,
        )  # fmt: skip
        found[weight] = run, loss.targets
    elr = three_way(found[3.0][0], labels, truth, null=found[0.0][0])
    assert elr.wrong.max(0)[0] > 0.95 and elr.null.wrong.max(0)[0] > 0.95
    assert elr.null.wrong[-1, 1] > 0.9  # cross-entropy memorizes
    assert elr.wrong[-1, 1] < 0.1
    scores = detected_as_wrong(found[3.0][1], labels, null_targets=found[0.0][1])
    wrong = data.wrong.numpy()
    assert (scores.values[wrong] > 0).mean() > 0.9
    assert (scores.values[~wrong] > 0).mean() < 0.05
    assert (scores.null.values[0][wrong] > 0).mean() < 0.2
    assert not math.isnan(scores.values.sum())


def test_a_tie_of_targets_says_nothing_whatever_the_number_of_the_class():
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.4, 0.4]])
    assert detected_as_wrong(targets, torch.tensor([0, 1, 2])).values.tolist() == [0, 0, 0]
    order = torch.tensor([2, 0, 1])
    again = detected_as_wrong(targets[:, order], torch.argsort(order)[torch.tensor([0, 1, 2])])
    assert again.values.tolist() == [0, 0, 0]


def test_lists_are_taken_and_masks_repeats_and_misfits_are_refused():
    predicted = torch.stack([TRUE, GIVEN])
    plain = three_way(predicted, GIVEN, TRUE)
    lists = three_way(predicted.tolist(), GIVEN.tolist(), TRUE.numpy(), list(range(8)))
    assert (lists.wrong == plain.wrong).all() and (lists.clean == plain.clean).all()
    targets = torch.eye(3)[GIVEN]
    for call in (
        lambda examples: three_way(predicted, GIVEN, TRUE, examples),
        lambda examples: detected_as_wrong(targets, GIVEN, examples),
    ):
        with pytest.raises(ValueError, match=r"examples is torch\.bool .*; give indices"):
            call(torch.ones(8).bool())
        with pytest.raises(ValueError, match="examples names an example twice"):
            call([0, 3, 3])
        with pytest.raises(ValueError, match="examples names -1, outside 0 to 7"):
            call([0, 3, -1])
        with pytest.raises(ValueError, match="examples names 8, outside 0 to 7"):
            call([0, 8])
    with pytest.raises(ValueError, match="labels is torch.float32 and must hold classes"):
        three_way(predicted, GIVEN + 0.5, TRUE)
    with pytest.raises(ValueError, match="there are 5 null_targets and 8 labels"):
        detected_as_wrong(targets, GIVEN, null_targets=targets[:5])
    with pytest.raises(ValueError, match=r"targets has shape \[8, 2\] for labels up to 2"):
        detected_as_wrong(targets[:, :2], GIVEN)
    with pytest.raises(ValueError, match=r"targets has shape \[0\] for no labels"):
        detected_as_wrong([], GIVEN[:0])
    with pytest.raises(ValueError, match="targets holds NaN"):
        detected_as_wrong(targets * torch.nan, GIVEN)
