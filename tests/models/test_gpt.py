"""The small GPT: cache, padding, its units under every engine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import memviz as mv
from memviz.models.gpt import GPT, GPTOutput
from memviz.tasks import Language


@pytest.fixture
def gpt() -> GPT:
    model = GPT(vocabulary=19, width=16, blocks=2, heads=4, context=12, seed=0).eval()
    with torch.no_grad():  # far from its small initial weights, so that every unit matters
        for parameter in model.parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def passages() -> Tensor:
    return torch.randint(19, (9, 8), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_a_cache_changes_no_logit(gpt: GPT, passages: Tensor) -> None:
    whole = gpt(passages)
    first = gpt(passages[:, :5], use_cache=True)
    assert isinstance(first, GPTOutput)
    rest = gpt(passages[:, 5:], past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat([first.logits, rest], 1), whole)


@torch.no_grad()
def test_later_tokens_change_no_earlier_logit(gpt: GPT, passages: Tensor) -> None:
    other = passages.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 19
    torch.testing.assert_close(gpt(passages)[:, :5], gpt(other)[:, :5])
    assert not torch.allclose(gpt(passages)[:, 5:], gpt(other)[:, 5:])


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padded_passages_give_what_each_alone_gives(gpt: GPT, passages: Tensor, side: str) -> None:
    lengths = [3, 8, 5]
    batch, mask = torch.zeros(3, 8, dtype=torch.int64), torch.zeros(3, 8, dtype=torch.int64)
    for row, length in enumerate(lengths):
        place = slice(8 - length, 8) if side == "left" else slice(0, length)
        batch[row, place], mask[row, place] = passages[row, :length], 1
    logits = gpt(batch, attention_mask=mask)
    for row, length in enumerate(lengths):
        place = slice(8 - length, 8) if side == "left" else slice(0, length)
        torch.testing.assert_close(logits[row, place], gpt(passages[row : row + 1, :length])[0])


def test_heads_and_neurons_are_units_with_the_hooks_answers(gpt: GPT, passages: Tensor) -> None:
    task = Language(4, 4)
    groups = {"memorized": range(4), "clean": range(4, 9)}
    study = mv.Study(gpt, passages, passages[:, 4:], groups, task=task)
    kinds = {layer.name: (layer.kind, layer.units) for layer in mv.layers(study)}
    assert kinds["blocks.0.attention"] == ("heads", 4)
    assert kinds["blocks.1.up"] == ("linear", 64)
    effects = mv.sweep(study, "blocks.0.attention:0-3 blocks.1.up:0-7", progress=False)
    by_hook = mv.sweep(
        study, "blocks.0.attention:0-3 blocks.1.up:0-7", progress=False, engine="hook"
    )
    torch.testing.assert_close(effects.margin_change, by_hook.margin_change, atol=2e-5, rtol=1e-4)
    assert effects.margin_change.abs().amin(1).max() > 0.01


@torch.no_grad()
def test_an_ablated_head_adds_nothing(gpt: GPT, passages: Tensor) -> None:
    with mv.ablate(gpt, "blocks.0.attention:2"):
        ablated = gpt(passages)
    columns = gpt.blocks[0].attention.out.weight[:, 8:12]  # type: ignore[union-attr,index]
    kept = columns.clone()
    columns.zero_()
    torch.testing.assert_close(ablated, gpt(passages))
    columns.copy_(kept)


@torch.no_grad()
def test_ablation_holds_while_a_cache_is_used(gpt: GPT, passages: Tensor) -> None:
    for units in ("blocks.0.attention:1 blocks.1.attention:3", "blocks.0.up:3,9 blocks.1.up:4"):
        with mv.ablate(gpt, units):
            whole = gpt(passages)
            first = gpt(passages[:, :5], use_cache=True)
            rest = gpt(passages[:, 5:], past_key_values=first.past_key_values)
        torch.testing.assert_close(torch.cat([first.logits, rest], 1), whole)
        assert not torch.allclose(whole, gpt(passages))


def test_bad_sizes_get_one_sentence(gpt: GPT) -> None:
    with pytest.raises(ValueError, match="a width that its heads divide"):
        GPT(11, width=10, heads=4)
    with pytest.raises(ValueError, match="13 tokens and the context 12"):
        gpt(torch.zeros(1, 13, dtype=torch.int64))
