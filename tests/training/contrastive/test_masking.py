"""Caption masking: what is left out, what stays, and how often."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memviz.training.contrastive import mask_captions

START, END = 90, 91


def captions(rows: list[list[int]], context: int = 12) -> torch.Tensor:
    return torch.tensor([[START, *r, END] + [0] * (context - len(r) - 2) for r in rows])


def slow(tokens: torch.Tensor, drawn: torch.Tensor, fraction: float) -> list[list[int]]:
    """One caption and one token at a time."""
    found = []
    for row, luck in zip(tokens.tolist(), drawn.tolist(), strict=True):
        end = row.index(END)
        kept = [START] + [row[i] for i in range(1, end) if luck[i] >= fraction] + [END]
        found.append(kept + [0] * (len(row) - len(kept)))
    return found


@given(
    st.lists(st.lists(st.integers(1, 89), max_size=10), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_equals_one_token_at_a_time(rows, fraction, seed):
    tokens = captions(rows)
    before = tokens.clone()
    drawn = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
    masked = mask_captions(tokens, fraction, torch.Generator().manual_seed(seed))
    assert masked.tolist() == slow(tokens, drawn, fraction)
    assert torch.equal(tokens, before)


def test_ends_of_the_range():
    tokens = captions([[3, 4, 5], [6]])
    generator = torch.Generator()
    assert torch.equal(mask_captions(tokens, 0.0, generator), tokens)
    assert mask_captions(tokens, 1.0, generator).tolist() == captions([[], []]).tolist()


def test_share_left_out_is_the_fraction_and_fresh_every_time():
    tokens = captions([[7] * 10] * 2000)
    generator = torch.Generator().manual_seed(0)
    one, other = (mask_captions(tokens, 0.3, generator) for _ in range(2))
    share = 1 - (one == 7).float().sum() / (tokens == 7).float().sum()
    assert abs(float(share) - 0.3) < 4 * (0.21 / 20000) ** 0.5
    assert not torch.equal(one, other)


def test_wrong_arguments():
    tokens, generator = captions([[1]]), torch.Generator()
    with pytest.raises(ValueError, match="between 0 and 1, but got 1.5"):
        mask_captions(tokens, 1.5, generator)
    with pytest.raises(ValueError, match="tokens must be integers"):
        mask_captions(tokens.float(), 0.5, generator)
    with pytest.raises(ValueError, match="tokens must be integers"):
        mask_captions(tokens[0], 0.5, generator)
