"""One passage token by token: a look-up model in closed form, and a slow loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from memviz.models.causal import Causal
from memviz.models.gpt import GPT
from memviz.probes.extraction import (
    Recital,
    extract,
    matched_by_prompt,
    recite,
    sampling_probabilities,
)

SUCCESSOR = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1) * 9).eval()


def small() -> GPT:
    return GPT(11, width=8, blocks=1, heads=2, context=12, seed=1).eval()


def test_a_look_up_model_is_right_until_the_passage_leaves_its_table() -> None:
    found = recite(SUCCESSOR, [0, 1], [2, 3, 0, 0])
    assert found.said.tolist() == [2, 3, 4, 0]
    assert found.matches.tolist() == [True, True, False, True]
    assert (found.matched, found.whole) == (2, False)
    assert repr(found) == "Recital(prompt 2, first wrong at token 3 of 4)"
    first = torch.tensor(9.0).exp() / (torch.tensor(9.0).exp() + 4)
    chances = found.probabilities(found.said).float()
    torch.testing.assert_close(chances, first.expand(4))
    assert found.ranks.tolist() == [1, 1, 2, 1]  # of equal logits token 0 comes first


def test_what_is_said_and_its_chances_are_those_of_a_loop() -> None:
    model, prompt, true = small(), [1, 2, 3], [4, 5, 6, 7]
    found, tokens = recite(model, prompt, true), torch.tensor([prompt])
    for place in range(4):
        logits = model(tokens)
        assert isinstance(logits, Tensor)
        row = logits[0, -1].detach()
        token = int(row.argmax())
        assert int(found.said[place]) == token
        shares = row.double().softmax(0)
        assert float(found.probabilities(found.true)[place]) == pytest.approx(
            float(shares[true[place]]), rel=1e-5
        )
        assert int(found.ranks[place]) == 1 + int((row > row[true[place]]).sum())
        tokens = torch.cat([tokens, torch.tensor([[token]])], 1)
    said = extract(model, [[*prompt, *true]], 3, 4, progress=False).said[0]
    assert torch.equal(found.said, said)


def test_a_draft_changes_nothing_but_the_number_of_calls() -> None:
    causal = Causal(small())
    prompt = torch.tensor([[1, 2, 3]])
    said = causal.greedy(prompt, 6)
    calls: list[int] = []
    causal.model.register_forward_pre_hook(lambda _module, given: calls.append(given[0].shape[1]))
    for right in range(7):
        draft = said.clone()
        if right < 6:
            draft[0, right] = (draft[0, right] + 1) % 11
        calls.clear()
        assert torch.equal(causal.greedy(prompt, 6, draft=draft), said)
        assert len(calls) == 1 + (6 - right)
    tied = nn.Embedding.from_pretrained(torch.zeros(5, 5)).eval()  # of equal logits, the first
    for draft in ([[0, 0, 0]], [[3, 3, 3]]):
        assert Causal(tied).greedy(prompt, 3, draft=torch.tensor(draft)).tolist() == [[0, 0, 0]]


def test_samples_follow_their_seed_and_their_chances() -> None:
    model, prompt, true = small(), [1, 2, 3], [4]
    one, again = (recite(model, prompt, [4, 5, 6], seed=7).said.tolist() for _ in range(2))
    assert one == again
    drawn = [int(recite(model, prompt, true, seed=seed).said[0]) for seed in range(400)]
    chance = float(sampling_probabilities(model, [[*prompt, *true]], 3, 1, progress=False)[0])
    spread = (chance * (1 - chance) / 400) ** 0.5
    assert abs(drawn.count(4) / 400 - chance) < 4 * spread
    logits = model(torch.tensor([prompt]))
    assert isinstance(logits, Tensor)
    likely = set(logits[0, -1].topk(2).indices.tolist())
    assert {
        int(recite(model, prompt, true, seed=seed, top_k=2).said[0]) for seed in range(40)
    } == likely


def test_each_prompt_length_gives_what_decoding_from_it_gives() -> None:
    model = small()
    passages = torch.randint(11, (6, 12), generator=torch.Generator().manual_seed(0))
    for passage in passages:
        # Its own words after five tokens, so that some lengths recite some of it.
        own = torch.cat([passage[:5], recite(model, passage[:5], passage[5:]).said])
        found = matched_by_prompt(model, own, 5, 7)
        assert found[-1] == 7
        for length, matched in enumerate(found.tolist(), 1):
            assert recite(model, own[5 - length : 5], own[5:]).matched == matched
        assert matched_by_prompt(model, own, 5, 7, [3]).tolist() == [found[2]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: recite(SUCCESSOR, [], [1]), "prompt is 0"),
        (lambda: recite(SUCCESSOR, [1], [7]), "token 7, and the model's vocabulary has 5"),
        (lambda: recite(SUCCESSOR, [1], [1], seed=0, temperature=0.0), "temperature is 0.0"),
        (lambda: matched_by_prompt(SUCCESSOR, [1, 2, 3], 2, 1, [3]), "lengths holds 3"),
        (lambda: matched_by_prompt(SUCCESSOR, [1, 2], 2, 1), "passage 0 has 2 tokens"),
        (lambda: matched_by_prompt(SUCCESSOR, None, 2, 1), "passage is None; give the ids of"),
        (lambda: recite(SUCCESSOR, 3, [1]), "prompt is 3; give the ids of its tokens"),
        (
            lambda: recite(SUCCESSOR, [1], torch.tensor(2)),
            r"true is torch.int64 of shape \(\); give",
        ),
        (lambda: recite(SUCCESSOR, [1], "text"), "true is 'text'; give the ids of its tokens"),
    ],
)
def test_bad_input_gets_one_sentence(call: object, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()  # type: ignore[operator]


def test_a_recital_keeps_what_it_was_given() -> None:
    found = recite(SUCCESSOR, torch.tensor([0]), torch.tensor([1]))
    assert isinstance(found, Recital) and found.prompt.tolist() == [0] and found.whole
