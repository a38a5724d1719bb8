"""A truth for the contest: a passage that was written into a few known neurons of a small GPT.

A GPT with 1,024 FFN neurons is trained on 24 passages of random tokens for some seconds. Then a
25th is written into twenty neurons, drawn at random: only what they write, their ``v_i``, is
trained (Chang et al. 2024, section 3.1; 2 % of the neurons), with the 24 kept in training so that
they are not forgotten, which the paper does not do. The new passage counts as memorized, the old
ones as clean, and passages that no model has seen as test.

``python -m memviz.demos.injected_passages`` holds the paper's own benchmark, INJ: nine models, each
with one passage written into its neurons and nothing kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memviz.engine.record import layers
from memviz.models.gpt import GPT
from memviz.probes.contest import Truth
from memviz.probes.lm_localization import (
    NeuronTable,
    activations,
    hard_concrete,
    inject,
    injection_benchmark,
    integrated_gradients,
    slimming,
    zero_out,
)
from memviz.progress import slow
from memviz.study import Study
from memviz.tasks import Language

VOCABULARY, TOKENS, PROMPT = 64, 24, 8
KNOWN, UNSEEN = 24, 8  # passages
HIDDEN, BLOCKS, NEURONS = 512, 2, 20  # neurons per block; planted ones
TRAINING_STEPS, LEARNING_RATE, RATE = 150, 3e-3, 0.03


def injected_passage(seed: int = 0) -> Truth:
    """Twenty of 1,024 FFN neurons hold one passage; only FFN neurons may be named.

    Raises
    ------
    RuntimeError
        If the neurons did not learn the passage, or another was forgotten.

    Examples
    --------
    >>> injected_passage(seed=0).named  # doctest: +SKIP
    20
    """
    study = base_study(seed)
    new = KNOWN
    planted = inject(
        study,
        [new],
        share=NEURONS / (BLOCKS * HIDDEN),
        keep=range(KNOWN),
        seed=seed,
        rate=RATE,
        progress=False,
    )
    place = torch.arange(len(study))
    groups = {"memorized": place == new, "clean": place < new, "test": place > new}
    study = replace(planted.study, groups=groups)
    if not bool((_margin(study)[: KNOWN + 1] > 0).all()):
        raise RuntimeError(f"seed {seed}: {NEURONS} neurons did not learn the passage alone.")
    among = {la.name: range(la.units) for la in layers(study) if la.name.endswith(".up")}
    note = f"{NEURONS} FFN neurons whose output weights alone were trained on one passage"
    return Truth("injected, one passage", study, planted.neurons, seed, among=among, note=note)


def base_study(seed: int = 0) -> Study:
    """A GPT that recites 24 passages of random tokens, and nine that it has never seen."""
    draw = torch.Generator().manual_seed(seed)
    count = KNOWN + 1 + UNSEEN
    passages = torch.randint(VOCABULARY, (count, TOKENS), generator=draw)
    model = GPT(VOCABULARY, blocks=BLOCKS, hidden=HIDDEN, context=TOKENS, seed=seed)
    _train(model, passages[:KNOWN])
    return Study(
        model.eval(),
        passages,
        passages[:, PROMPT:],
        {"known": torch.arange(count) < KNOWN, "unseen": torch.arange(count) >= KNOWN},
        name="passages of random tokens",
        task=Language(PROMPT, TOKENS - PROMPT),
    )


def _train(model: nn.Module, passages: Tensor) -> None:
    """Whole passages at once, by Adam; the model has no dropout, so nothing is drawn."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    with torch.enable_grad():
        for _ in slow(range(TRAINING_STEPS), "training a GPT"):
            logits = model(passages[:, :-1])
            loss = cross_entropy(logits.flatten(0, 1), passages[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def _margin(study: Study) -> Tensor:
    outputs = study.task.outputs(study.call(study.batch(torch.arange(len(study))))())
    return study.task.margin(outputs, study.labels)


TRUTHS = {"injected, one passage": injected_passage}


def main() -> None:
    """Print INJ's recall of each localizer, with one per cent of the neurons planted."""
    study = base_study()
    methods: dict[str, Callable[..., NeuronTable]] = {
        "hard concrete": hard_concrete,
        "slimming": slimming,
        "zero-out": zero_out,
        "integrated gradients": integrated_gradients,
        "activations": activations,
    }
    quiet = {name: partial(method, progress=False) for name, method in methods.items()}
    print(injection_benchmark(study, study.group("unseen"), quiet, share=0.01))


if __name__ == "__main__":
    main()
