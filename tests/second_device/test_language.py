"""Language models on a second device: passages, decoding and neurons, bit for bit the CPU's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import memviz as mv
from memviz.probes import extraction, lm_localization
from tests.support.figures import ROUNDING, differing
from tests.support.passages import PROMPT, loud_gpt, passages, study_of
from tests.support.second_device import DEVICE

QUIET: dict[str, Any] = {"progress": False}
TOKENS = passages(6)

OF_MODELS: dict[str, Any] = {
    "extract": lambda m: extraction.extract(m, TOKENS, PROMPT, 4, **QUIET),
    "teacher-forced": lambda m: extraction.teacher_forced(m, TOKENS, PROMPT, 4),
    "recite": lambda m: extraction.recite(m, TOKENS[0, :PROMPT], TOKENS[0, PROMPT:]),
    "sample": lambda m: extraction.recite(
        m, TOKENS[0, :PROMPT], TOKENS[0, PROMPT:], temperature=0.7, seed=1
    ),
}
OF_STUDIES: dict[str, Any] = {
    "sweep": lambda s: mv.sweep(s, **QUIET),
    "estimate": mv.estimate,
    "activations": lambda s: lm_localization.activations(s, **QUIET),
    "integrated gradients": lambda s: lm_localization.integrated_gradients(s, steps=2, **QUIET),
    "slimming": lambda s: lm_localization.slimming(s, steps=2, **QUIET),
    "hard concrete": lambda s: lm_localization.hard_concrete(s, steps=2, **QUIET),
    "zero out": lambda s: lm_localization.zero_out(s, **QUIET),
    "deletion": lambda s: lm_localization.deletion(
        lm_localization.activations(s, **QUIET), (0.1,), random_draws=1, distances=True
    ),
}


@pytest.fixture(autouse=True)
def _one_attention() -> Iterator[None]:
    """The CPU has a fused kernel of its own for attention, with other roundings."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module]:
    here = loud_gpt()
    return here, copy.deepcopy(here).to(DEVICE)


@pytest.mark.parametrize("call", OF_MODELS)
def test_what_is_said(models: tuple[nn.Module, nn.Module], call: str) -> None:
    here, there = (OF_MODELS[call](model) for model in models)
    assert differing(here, there) == []


@pytest.mark.parametrize("call", OF_STUDIES)
def test_where_it_is(models: tuple[nn.Module, nn.Module], call: str) -> None:
    here, there = (study_of(model) for model in models)
    assert there.device == DEVICE
    assert differing(OF_STUDIES[call](here), OF_STUDIES[call](there), ROUNDING) == []
