"""A small GPT that has learnt some passages by heart, and a tokenizer of whole words."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models.gpt import GPT
from memviz.tasks import Language
from tests.support.page import EVIL

PROMPT, CONTINUATION, TRAINED, HELD = 6, 8, 12, 6
COPIES = [16] * 6 + [4] * 3 + [1] * 3 + [0] * HELD
_SOME = """
a and are as at be but by day far for from go had has he her his in is it
me moon my night no not of on or our sea she so star sun the to up was we will you
"""
WORDS = [EVIL, *_SOME.split()]


class Words:
    """Token ids are places in a list of words, each with a space before it."""

    def encode(self, text: str) -> list[int]:
        return [WORDS.index(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return "".join(f" {WORDS[token]}" for token in ids)


def passages() -> Tensor:
    """Random words, ``[18, 14]``; the first of the list begins with markup."""
    generator = torch.Generator().manual_seed(3)
    found = torch.randint(
        1, len(WORDS), (TRAINED + HELD, PROMPT + CONTINUATION), generator=generator
    )
    found[0, PROMPT + 2] = 0
    return found


@cache
def _weights(steps: int) -> dict[str, Tensor]:
    tokens, generator = passages(), torch.Generator().manual_seed(4)
    model = _gpt()
    share = torch.tensor(COPIES[:TRAINED]).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(steps):
        batch = tokens[torch.multinomial(share, 24, replacement=True, generator=generator)]
        logits = model(batch[:, :-1])
        assert isinstance(logits, Tensor)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def _gpt() -> GPT:
    return GPT(len(WORDS), width=24, blocks=2, heads=3, context=PROMPT + CONTINUATION, seed=0)


def recited_model(steps: int = 150) -> GPT:
    """The model after some steps of training, the same each time."""
    model = _gpt()
    model.load_state_dict(_weights(steps))
    return model.eval()


def recited_ladder() -> dict[str, Any]:
    """An untrained model, and the trained one early, halfway and at its end."""
    half = {str(steps): recited_model(steps) for steps in (40, 80, 150)}
    return {"new": _gpt().eval(), "moons": half}


def recited_study(**changes: Any) -> mv.Study:
    """12 passages in training, 1 to 16 times, and 6 held out."""
    tokens = passages()
    given: dict[str, Any] = {
        "groups": {"training": torch.arange(TRAINED), "held-out": torch.arange(TRAINED, 18)},
        "task": Language(PROMPT, CONTINUATION, tokenizer=Words()),
        "name": "moons",
        "origin": "recited_study()",
    } | changes
    return mv.Study(recited_model(), tokens, tokens[:, PROMPT:], **given)
