"""Memorization scores against look-up tables, a slow loop, and Hugging Face's own decoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import memviz as mv
from memviz.models.gpt import GPT
from memviz.probes.extraction import (
    Extraction,
    extract,
    sampling_probabilities,
    teacher_forced,
)
from tests.support.language_models import build

V = 13


class Table(nn.Module):
    """Continues planted prompts by a table, and is uniform otherwise."""

    def __init__(self, passages: Tensor, prompt: int) -> None:
        super().__init__()
        self.prompt = prompt
        self.table = {
            tuple(row[:k].tolist()): int(row[k])
            for row in passages
            for k in range(prompt, len(row))
        }

    def forward(self, tokens: Tensor) -> Tensor:
        logits = torch.zeros(*tokens.shape, V)
        for row in range(len(tokens)):
            for k in range(tokens.shape[1]):
                said = self.table.get(tuple(tokens[row, : k + 1].tolist()))
                if said is not None:
                    logits[row, k, said] = 20.0
        return logits


def drawn(n: int, tokens: int = 12, seed: int = 0) -> Tensor:
    return torch.randint(1, V, (n, tokens), generator=torch.Generator().manual_seed(seed))


def slow(model: nn.Module, passages: Tensor, prompt: int) -> Tensor:
    """What the model says, one passage and one token at a time, without a cache."""
    said = []
    with torch.no_grad():
        for row in passages:
            tokens = row[:prompt][None]
            for _ in range(passages.shape[1] - prompt):
                raw = model(tokens)
                logits = raw if isinstance(raw, Tensor) else raw.logits
                tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)
            said.append(tokens[0, prompt:])
    return torch.stack(said)


def test_a_table_recites_what_is_planted_and_nothing_else() -> None:
    planted, others = drawn(20), drawn(400, seed=1)
    model = Table(planted, 4).eval()
    scores = extract(model, torch.cat([planted, others]), 4, 8, progress=False).scores
    assert (scores[:20] == 1).all()
    # Of equal logits the first token is said, 0, which no passage holds.
    assert (scores[20:] == 0).all()
    whole = teacher_forced(model, torch.cat([planted, others]), 4, 8, progress=False)
    assert whole.memorized[:20].all()
    assert not whole.memorized[20:].any()


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 0, 0, 0], 0.7),
        ([0] * 10, 0.0),
        ([1, 0, 0, 4, 0, 0, 0, 0, 0, 10], 0.3),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 1.0),
    ],
)
def test_worked_values(said: list[int], score: float) -> None:
    passage = torch.tensor([[0, *range(1, 11)]])
    result = Extraction(("0",), passage, torch.tensor([said]), 1, 10)
    assert result.scores[0] == pytest.approx(score, abs=1e-15)
    assert result.memorized[0] == (score == 1)


def small_gpt() -> nn.Module:
    model = GPT(V, width=16, blocks=2, heads=4, context=16, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("family", ["gpt2", "pythia", "llama", "qwen2", "gemma", "own"])
def test_decoding_is_that_of_a_loop_without_cache(family: str) -> None:
    model = small_gpt() if family == "own" else build(family)
    passages = drawn(30)
    result = extract(model, passages, 5, 7, batch_size=8, progress=False)
    assert torch.equal(result.said, slow(model, passages, 5))
    # Recited passages among the others: what the model itself has said.
    passages[::3, 5:] = result.said[::3]
    again = extract(model, passages, 5, 7, progress=False)
    whole = teacher_forced(model, passages, 5, 7, progress=False)
    assert (again.memorized == whole.memorized).all()
    assert again.memorized[::3].all()
    assert again.scores.mean() != whole.correct.double().mean()


@pytest.mark.parametrize("family", ["gpt2", "pythia", "llama", "qwen2", "gemma", "own"])
def test_decoding_uses_the_cache(family: str) -> None:
    model, read = small_gpt() if family == "own" else build(family), []
    model.register_forward_pre_hook(
        lambda _m, given, named: read.append(tuple((*given, named.get("input_ids"))[0].shape)),
        with_kwargs=True,
    )
    extract(model, drawn(8), 5, 7, progress=False)
    # A near tie is settled by the whole passage, alone.
    assert [shape for shape in read if shape[0] == 8] == [(8, 5), *[(8, 1)] * 6]


def test_decoding_is_hugging_face_generate() -> None:
    model, passages = build("llama"), drawn(12)
    theirs = model.generate(
        passages[:, :5], max_new_tokens=7, min_new_tokens=7, do_sample=False, pad_token_id=0,
        eos_token_id=None,
    )  # fmt: skip
    assert torch.equal(extract(model, passages, 5, 7, progress=False).said, theirs[:, 5:])


def test_answers_do_not_depend_on_batch_size_or_order() -> None:
    model, passages = small_gpt(), drawn(23)
    wanted = extract(model, passages, 5, 7, progress=False)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(5))
    for size in (1, 4, 23):
        mixed = extract(model, passages[order], 5, 7, batch_size=size, progress=False)
        assert torch.equal(mixed.said, wanted.said[order])
    alone = extract(model, passages[7:8], 5, 7, progress=False)
    assert torch.equal(alone.said[0], wanted.said[7])


def test_exact_ties_are_decoded_as_each_passage_alone_is() -> None:
    class Tied(nn.Module):
        """Two tokens tie up to rounding that depends on the batch."""

        def forward(self, tokens: Tensor) -> Tensor:
            logits = torch.zeros(*tokens.shape, V)
            logits[..., 3] = 1.0
            logits[..., 5] = 1.0 + 1e-7 * (1 if len(tokens) == 1 else -1)
            return logits

    passages = drawn(6)
    together = extract(Tied().eval(), passages, 5, 7, progress=False)
    assert (together.said == 5).all()


def test_scores_in_a_block_are_of_the_ablated_model() -> None:
    model, passages = small_gpt(), drawn(20)
    passages[:, 5:] = extract(model, passages, 5, 7, progress=False).said
    with mv.ablate(model, "blocks.0.attention:0,1 blocks.1.attention:2"):
        ablated = extract(model, passages, 5, 7, progress=False)
        said = slow(model, passages, 5)
    assert torch.equal(ablated.said, said)
    assert not ablated.memorized.all()


def test_tables_keep_the_names() -> None:
    result = extract(small_gpt(), drawn(3), 5, 7, ids=["a", "b", "c"], progress=False)
    table = result.table()
    assert list(table["id"]) == ["a", "b", "c"]
    assert list(table.columns) == ["id", "score", "memorized", "matched"]
    held_out = extract(small_gpt(), drawn(3, seed=9), 5, 7, progress=False)
    assert "held-out passages 0" in result.as_scores(held_out).measure


def test_the_spike_is_what_a_constant_rate_does_not_give() -> None:
    passages = torch.randint(1, V, (4000, 9), generator=torch.Generator().manual_seed(1))
    right = torch.rand(4000, 8, generator=torch.Generator().manual_seed(2)) < 0.6
    said = torch.where(right, passages[:, 1:], 0)
    names = tuple(map(str, range(4000)))
    by_chance = Extraction(names, passages, said, 1, 8)
    assert by_chance.constant_rate[-1] == pytest.approx(float(right.double().mean()) ** 8)
    assert abs(by_chance.spike) < 0.01
    said[:400] = passages[:400, 1:]
    planted = Extraction(names, passages, said, 1, 8)
    assert planted.spike > 0.08
    assert planted.as_scores().measure.endswith(
        f"{planted.memorized.mean():.1%} at 1, by a constant rate {planted.constant_rate[-1]:.1%}"
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out(side: str) -> None:
    model, passages = small_gpt(), drawn(4, tokens=14)
    rows = [row[:length] for row, length in zip(passages, [12, 14, 13, 12], strict=True)]
    ids, mask = torch.zeros(4, 14, dtype=torch.int64), torch.zeros(4, 14, dtype=torch.int64)
    for number, row in enumerate(rows):
        at = slice(14 - len(row), 14) if side == "left" else slice(0, len(row))
        ids[number, at], mask[number, at] = row, 1
    batch = hf.BatchEncoding({"input_ids": ids, "attention_mask": mask})
    padded = extract(model, batch, 5, 7, progress=False)
    assert torch.equal(padded.passages, passages[:, :12])
    assert torch.equal(padded.said, extract(model, passages, 5, 7, progress=False).said)
    lists = {"input_ids": ids.tolist(), "attention_mask": mask.tolist()}
    assert torch.equal(padded.said, extract(model, lists, 5, 7, progress=False).said)
    mask[2] = 0
    with pytest.raises(ValueError, match="passage 2 is all padding; leave it out"):
        extract(model, {"input_ids": ids, "attention_mask": mask}, 5, 7, progress=False)


@pytest.mark.parametrize("family", ["gpt2", "gemma", "own"])
def test_ids_of_another_vocabulary_get_one_sentence(family: str) -> None:
    model = small_gpt() if family == "own" else build(family)
    for at in (2, 11):  # in the prompt, and in the continuation alone
        passages = drawn(6)
        passages[4, at] = 40
        for measure in (extract, teacher_forced, sampling_probabilities):
            with pytest.raises(ValueError, match="token|ids up to 40"):
                measure(model, passages, 5, 7, batch_size=3, progress=False)


def test_passages_beyond_the_context_get_one_sentence() -> None:
    with pytest.raises(ValueError, match="no embedding for one of 65 tokens"):
        teacher_forced(build("gpt2"), drawn(2, tokens=66), 50, 16, progress=False)


def test_matched_counts_to_the_first_error() -> None:
    said = torch.tensor([[1, 2, 0, 4], [0, 2, 3, 4], [1, 2, 3, 4]])
    passages = torch.tensor([[9, 1, 2, 3, 4]] * 3)
    result = Extraction(("0", "1", "2"), passages, said, 1, 4)
    np.testing.assert_array_equal(result.matched, [2, 0, 4])


@pytest.mark.parametrize(
    ("passages", "options", "sentence"),
    [
        (drawn(2), {"prompt": 9}, "fewer than a prompt of 9 and a continuation of 7"),
        ([[1, 2, 3], list(range(12))], {}, "passage 0 has 3 tokens"),
        (["to be or not"], {}, "passage 0 is str; give its token ids"),
        (torch.rand(2, 12), {}, "no token ids"),
        (drawn(2), {"prompt": 0}, "prompt is 0"),
        ({"tokens": drawn(2)}, {}, "no entry 'input_ids'"),
        ({"input_ids": drawn(2), "attention_mask": drawn(3)}, {}, "different shapes"),
        (drawn(2), {"ids": ["a"]}, "ids holds 1 names for 2"),
        (drawn(2), {"ids": ["a", "a"]}, "names 'a' twice"),
        (torch.zeros(0, 12), {}, "give token ids"),
    ],
)
def test_bad_input_gets_one_sentence(passages: Any, options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        extract(
            small_gpt(), passages, **{"prompt": 5, "continuation": 7, "progress": False} | options
        )


def test_models_that_are_no_language_models_get_one_sentence() -> None:
    with pytest.raises(TypeError, match="model is 'gpt2'; give a torch.nn.Module"):
        extract("gpt2", drawn(2), 5, 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="train mode"):
        extract(small_gpt().train(), drawn(2), 5, 7)
    with pytest.raises(ValueError, match="it must return logits"):
        extract(nn.Sequential(nn.Embedding(V, 4), nn.Flatten()).eval(), drawn(2), 5, 7)
    with pytest.raises(ValueError, match="vocabulary has 5 tokens"):
        teacher_forced(nn.Embedding(V, 5).eval(), drawn(2), 5, 7)
