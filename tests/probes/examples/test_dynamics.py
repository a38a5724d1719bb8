"""Scores of one run equal hand-counted sequences, and their null is what no special example has."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from memviz.probes.examples import (
    area_under_margin,
    cumulative_loss,
    forgetting_events,
    learning_time,
    scores_of_run,
    second_split_forgetting,
    shuffled_null,
)
from memviz.training.loop import train
from memviz.training.run import TrainingRun

ROWS = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9)


def columns(*sequences: str) -> Tensor:
    return torch.tensor([[int(c) for c in text] for text in sequences]).bool().T


def test_sequences_counted_by_hand() -> None:
    correct = columns("0110100", "1111111", "0000000", "0000001", "1010101", "0111111")
    assert forgetting_events(correct).values.tolist() == [2, 0, 7, 0, 3, 0]
    assert learning_time(correct).values.tolist() == [8, 1, 8, 7, 7, 2]
    assert second_split_forgetting(correct).values.tolist() == [2, 0, 7, 0, 0, 0]


@given(ROWS)
def test_counts_equal_plain_python(rows: list[list[bool]]) -> None:
    correct = torch.tensor(rows)
    for k, sequence in enumerate(zip(*rows, strict=True)):
        epochs = len(sequence)
        events = sum(a and not b for a, b in pairwise(sequence))
        forgotten = forgetting_events(correct, null_draws=0).values[k]
        assert forgotten == (events if any(sequence) else epochs)
        # The definition of the paper: first epoch (from 1) from which it is right for good.
        learned = next((e + 1 for e in range(epochs) if all(sequence[e:])), epochs + 1)
        assert learning_time(correct, null_draws=0).values[k] == learned
        lost = next((e + 1 for e in range(epochs) if not any(sequence[e:])), epochs + 1)
        assert second_split_forgetting(correct, null_draws=0).values[k] == epochs + 1 - lost


def test_losses_and_margins() -> None:
    losses = torch.tensor([[2.0, 0.5], [1.0, 0.25]])
    assert cumulative_loss(losses).values.tolist() == [3.0, 0.75]
    assert area_under_margin(losses).values.tolist() == [-1.5, -0.375]
    half = cumulative_loss(torch.full((1000, 1), 0.1, dtype=torch.float16), null_draws=0)
    assert half.values[0] == pytest.approx(100, rel=1e-3)  # summed in double precision


def test_the_null_is_the_distribution_where_no_example_is_special() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(30, 500, generator=generator)  # each epoch drawn anew
    found = cumulative_loss(losses)
    low, high = found.null.interval
    assert np.ptp(low) == np.ptp(high) == 0
    inside = (low <= found.values) & (found.values <= high)
    assert 0.92 < inside.mean() < 0.98
    assert found.null.mean[0] == pytest.approx(15, abs=0.1)
    planted = losses.clone()
    planted[:, :25] += 0.5
    special = cumulative_loss(planted)
    assert (special.values[:25] > special.null.interval[1][:25]).all()
    assert "each epoch dealt to the examples at random" in special.null.words


def test_the_nulls_quantiles_are_those_of_the_deals() -> None:
    table = torch.arange(6.0).view(1, 6)  # dealt anew, one epoch keeps its values
    null = shuffled_null(table, lambda rows: rows.sum(0), 3, 0)
    assert null.values.shape == (201, 6)
    assert set(np.unique(null.values)) == set(range(6))
    assert null.mean == pytest.approx(2.5, abs=0.02)


def test_a_recorded_run_gives_its_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 5, generator=generator)
    labels = (inputs[:, 0] > 0).long()
    labels[:6] = 1 - labels[:6]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 2))
    run = train(model, inputs, labels, epochs=30, batch_size=10, progress=False)
    ids = torch.arange(100, 160)
    found = {one.name: one for one in scores_of_run(run, ids)}
    assert list(found) == [
        *("cumulative sample loss", "area under the margin", "learning time", "forgetting events"),
    ]
    for one in found.values():
        assert one.examples.tolist() == ids.tolist()
        assert one.values[:6].mean() > one.values[6:].mean()
        assert one.higher == "more memorized"
        assert one.source
    assert found["cumulative sample loss"].values == pytest.approx(run.losses.sum(0).numpy())
    presented = forgetting_events(run.presented_margins > 0).values
    assert found["forgetting events"].values.tolist() == presented.tolist()
    # A loop of one's own that told no batches: after each epoch instead.
    own = TrainingRun(run.labels, run.predictions, run.losses, run.margins)
    assert scores_of_run(own)[3].values.tolist() == forgetting_events(run.correct).values.tolist()


def test_bad_tables_get_one_sentence() -> None:
    with pytest.raises(ValueError, match="correct is torch.int64 of shape"):
        forgetting_events(torch.ones(3, 4).long())
    with pytest.raises(ValueError, match=r"give bool \[epochs, n\]"):
        learning_time(torch.ones(4).bool())
    with pytest.raises(ValueError, match=r"give floats \[epochs, n\]"):
        cumulative_loss(torch.ones(3, 4).long())
    losses = torch.ones(3, 4)
    losses[1, 2] = torch.nan
    with pytest.raises(ValueError, match="losses of row 1, column 2 is nan"):
        cumulative_loss(losses)
    with pytest.raises(ValueError, match="margins of row 1, column 2 is nan"):
        area_under_margin(losses)
    with pytest.raises(ValueError, match="give one index per column"):
        forgetting_events(torch.ones(3, 4).bool(), examples=torch.arange(3))
    with pytest.raises(ValueError, match="give one index per column"):
        forgetting_events(torch.ones(3, 4).bool(), examples=torch.rand(4))
