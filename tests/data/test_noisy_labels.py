"""Wrong labels: the exact number, never the truth, every wrong class, the same each time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memviz.data.noisy_labels import replace_labels


@given(
    n=st.integers(0, 300),
    fraction=st.floats(0, 1),
    classes=st.integers(2, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_replaces_exactly_the_fraction_and_never_by_the_truth(n, fraction, classes, seed):
    truth = torch.arange(n) % classes
    noisy, wrong = replace_labels(truth, fraction, classes, seed)
    assert wrong.dtype == torch.bool
    assert noisy.dtype == torch.int64
    assert int(wrong.sum()) == round(fraction * n)
    assert torch.equal(noisy != truth, wrong)
    assert ((noisy >= 0) & (noisy < classes)).all()


def test_every_wrong_class_is_equally_likely():
    truth = torch.full((90_000,), 7)
    noisy, _ = replace_labels(truth, 1.0, 10, seed=0)
    counts = torch.bincount(noisy, minlength=10)
    assert counts[7] == 0
    others = counts[torch.arange(10) != 7]
    # Nine classes of 10,000 expected each; five standard deviations are about 470.
    assert (others - 10_000).abs().max() < 470


def test_replaced_examples_are_spread_over_the_whole_set():
    _, wrong = replace_labels(torch.zeros(10_000, dtype=torch.long), 0.1, 2, seed=3)
    halves = wrong[:5000].sum(), wrong[5000:].sum()
    assert min(halves) > 400


def test_same_seed_same_labels_and_global_generators_untouched():
    truth = torch.arange(100) % 10
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = replace_labels(truth, 0.2, 10, 8), replace_labels(truth, 0.2, 10, 8)
    other = replace_labels(truth, 0.2, 10, 9)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_a_known_draw_stays_the_same():
    noisy, _ = replace_labels(torch.arange(10), 0.3, 10, seed=0)
    assert noisy.tolist() == [0, 1, 7, 3, 1, 5, 6, 7, 6, 9]


def test_the_given_labels_are_not_changed_and_small_integers_will_do():
    truth = torch.arange(10, dtype=torch.uint8)
    noisy, wrong = replace_labels(truth, 1.0, 10, seed=0)
    assert truth.tolist() == list(range(10))
    assert noisy.dtype == torch.int64
    assert wrong.all()


@pytest.mark.parametrize(
    ("labels", "fraction", "classes", "said"),
    [
        (torch.zeros(4), 0.1, 10, "must be integers"),
        (torch.zeros(4, 2, dtype=torch.long), 0.1, 10, r"shape \[4, 2\]"),
        (torch.zeros(4, dtype=torch.long), 1.1, 10, "between 0 and 1, but got 1.1"),
        (torch.zeros(4, dtype=torch.long), float("nan"), 10, "between 0 and 1, but got nan"),
        (torch.zeros(4, dtype=torch.long), 0.1, 1, "at least 2 classes"),
        (torch.tensor([0, 5]), 0.1, 5, "between 0 and 4, but they run from 0 to 5"),
        (torch.tensor([-1, 2]), 0.1, 5, "run from -1 to 2"),
    ],
)
def test_bad_input_gets_one_clear_sentence(labels, fraction, classes, said):
    with pytest.raises(ValueError, match=said):
        replace_labels(labels, fraction, classes, seed=0)
