"""Small language models, passages for them, and plain passes in which neurons are changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models.gpt import GPT
from memviz.probes.lm_localization import Injection, inject
from memviz.tasks import Language

VOCABULARY, TOKENS, PROMPT = 40, 14, 6
KNOWN, NEURONS = 6, 16  # passages that a model recites, and neurons of 512 that hold one more


class OneLayer(nn.Module):
    """Tokens, one feed-forward network, and logits that are linear in its neurons."""

    def __init__(self, vocabulary: int = 7, width: int = 5, hidden: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.up, self.relu = nn.Linear(width, hidden), nn.ReLU()
        self.down = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.down(self.relu(self.up(self.embed(tokens))))
        return logits


def passages(count: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    """Random tokens, ``[count, TOKENS]``."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (count, TOKENS), generator=draw)


def study_of(model: nn.Module, count: int = 6, vocabulary: int = VOCABULARY) -> mv.Study:
    """Half of the passages memorized by name, the others clean."""
    tokens, half = passages(count, vocabulary=vocabulary), count // 2
    groups = {"memorized": range(half), "clean": range(half, count)}
    task = Language(PROMPT, TOKENS - PROMPT)
    return mv.Study(model.eval(), tokens, tokens[:, PROMPT:], groups, task=task)


def loud_gpt(hidden: int = 24) -> GPT:
    """A GPT with weights large enough that its neurons matter."""
    model = GPT(VOCABULARY, width=16, blocks=2, heads=2, hidden=hidden, context=TOKENS, seed=0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.35)
    return model.eval()


def with_neurons(
    model: nn.Module,
    tokens: Tensor,
    readers: Mapping[str, str],
    change: Callable[[str, Tensor], Tensor],
) -> Tensor:
    """Logits ``[n, tokens, vocabulary]`` of a plain pass, with hooks before the projections.

    ``readers`` names each layer's projection; ``change`` gets the layer and what it is given.
    """
    handles = [
        model.get_submodule(projection).register_forward_pre_hook(
            lambda _module, given, layer=layer: (change(layer, given[0]), *given[1:])
        )
        for layer, projection in readers.items()
    ]
    try:
        raw = model(tokens)
    finally:
        for handle in handles:
            handle.remove()
    logits: Tensor = getattr(raw, "logits", raw)
    return logits


def injected() -> Injection:
    """A GPT that recites some passages, and one more that few of its 512 neurons hold."""
    model = GPT(VOCABULARY, width=48, blocks=2, heads=2, hidden=256, context=TOKENS, seed=0)
    tokens = passages(KNOWN + 5)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        logits = model(tokens[:KNOWN, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:KNOWN, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    groups = {
        "memorized": [KNOWN],
        "clean": range(KNOWN),
        "held out": range(KNOWN + 1, KNOWN + 5),
    }
    task = Language(PROMPT, TOKENS - PROMPT)
    study = mv.Study(model.eval(), tokens, tokens[:, PROMPT:], groups, task=task)
    share = NEURONS / 512
    return inject(
        study, [KNOWN], share=share, keep=range(KNOWN), rate=0.05, until=0.1, progress=False
    )
