"""The four subsets keep their truth."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memviz.data.subsets import Subsets, four_subsets


@given(st.integers(8, 200), st.integers(0, 1000))
def test_every_image_is_in_one_set_at_most(n: int, seed: int) -> None:
    sets = four_subsets(n, 0.5, 0.2, 0.2, 0.1, seed=seed)
    every = torch.cat(list(sets.named().values()))
    assert len(every) == len(every.unique()) <= n and int(every.max()) < n
    assert set(sets.target.tolist()) & set(sets.reference.tolist()) == set(sets.shared.tolist())
    assert not set(sets.external.tolist()) & set(torch.cat([sets.target, sets.reference]).tolist())


def test_the_shares_of_the_paper_use_every_training_image() -> None:
    sets = four_subsets(50_000)
    sizes = {name: len(images) for name, images in sets.named().items()}
    assert sizes == {"S_S": 40_000, "S_C": 5_000, "S_I": 5_000}
    assert len(sets.target) == len(sets.reference) == 45_000


def test_a_seed_draws_and_the_global_generator_does_not() -> None:
    state = torch.get_rng_state()
    one, again, other = (four_subsets(100, 10, 10, 10, 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.candidate, again.candidate)
    assert not torch.equal(one.candidate, other.candidate)


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="image 3 is in two sets"):
        Subsets([0, 3], [3], [], [])
    with pytest.raises(ValueError, match="there is no candidate"):
        Subsets([0], [], [1], [2])
    with pytest.raises(ValueError, match="image -1 is negative"):
        Subsets([0], [-1], [], [])
    with pytest.raises(ValueError, match="250 images together, and there are 200"):
        four_subsets(200, 100, 50, 50, 50)
    with pytest.raises(ValueError, match="must not be negative"):
        four_subsets(200, -1, 50, 50)
    with pytest.raises(ValueError, match="need at least 2"):
        four_subsets(200, 0, 50, 1)
