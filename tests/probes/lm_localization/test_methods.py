"""Localizers of FFN neurons: closed forms, slow versions with plain hooks, five families."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import memviz as mv
from memviz.probes.contest import LOCALIZERS
from memviz.probes.lm_localization import (
    NeuronTable,
    activations,
    hard_concrete,
    integrated_gradients,
    slimming,
    zero_out,
)
from memviz.probes.lm_localization.localizers import LOCALIZERS as OURS
from memviz.statistics import generator_of
from memviz.tasks import Language
from tests.support.passages import (
    PROMPT,
    TOKENS,
    VOCABULARY,
    OneLayer,
    loud_gpt,
    passages,
    study_of,
    with_neurons,
)

METHODS: dict[str, Callable[..., NeuronTable]] = {
    "zero-out": zero_out,
    "activations": activations,
    "integrated gradients": integrated_gradients,
    "slimming": lambda study, examples=None, **given: slimming(study, examples, steps=8, **given),
    "hard concrete": lambda study, examples=None, **given: hard_concrete(
        study, examples, steps=8, **given
    ),
}
READERS = {f"blocks.{block}.up": f"blocks.{block}.down" for block in (0, 1)}
_SIZES = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "num_attention_heads": 2}
_WIDTHS = {"hidden_size": 16, "intermediate_size": 20, "initializer_range": 0.3}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 20}
FAMILIES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "gpt2": (
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**_GPT2, **_TOKENS, initializer_range=0.3)),
        "transformer.h.{}.mlp.c_fc",
        "transformer.h.{}.mlp.c_proj",
    ),
    "gpt_neox": (
        lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_SIZES, **_WIDTHS, **_TOKENS)),
        "gpt_neox.layers.{}.mlp.dense_h_to_4h",
        "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    ),
    "llama": (
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_SIZES, **_WIDTHS, **_TOKENS)),
        "model.layers.{}.mlp",
        "model.layers.{}.mlp.down_proj",
    ),
    "qwen2": (
        lambda: hf.Qwen2ForCausalLM(
            hf.Qwen2Config(**_SIZES, **_WIDTHS, **_TOKENS, num_key_value_heads=1)
        ),
        "model.layers.{}.mlp",
        "model.layers.{}.mlp.down_proj",
    ),
    "gemma": (
        lambda: hf.GemmaForCausalLM(
            hf.GemmaConfig(**_SIZES, **_WIDTHS, **_TOKENS, num_key_value_heads=1, head_dim=8)
        ),
        "model.layers.{}.mlp",
        "model.layers.{}.mlp.down_proj",
    ),
}


def family(name: str) -> tuple[mv.Study, dict[str, str]]:
    """A tiny model of a family, and the projection that reads each layer of neurons."""
    build, layer, projection = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    return study_of(model, 4), {layer.format(k): projection.format(k) for k in (0, 1)}


def losses(study: mv.Study, logits: Tensor, rows: slice = slice(None)) -> Tensor:
    """Mean negative log-likelihood of each continuation, ``[n]``, by hand."""
    told = logits[:, PROMPT - 1 : TOKENS - 1].log_softmax(-1)
    return -told.gather(-1, study.labels[rows][..., None])[..., 0].mean(1)


def test_integrated_gradients_of_linear_logits_are_the_occlusion() -> None:
    torch.manual_seed(0)
    study = study_of(OneLayer(), vocabulary=7)
    model, tokens = study.model, study.inputs
    assert isinstance(model, OneLayer) and isinstance(tokens, Tensor)
    with torch.no_grad():
        h = model.relu(model.up(model.embed(tokens)))[:, PROMPT - 1 : TOKENS - 1]
        written = h * model.down.weight[study.labels]
    found = integrated_gradients(study, of="logit", steps=1, progress=False)
    assert found.values == pytest.approx(written.mean(1).numpy(), abs=1e-6)
    assert found.missed is not None and found.missed == pytest.approx(0, abs=1e-6)
    for unit in range(6):

        def zero(_: str, given: Tensor, unit: int = unit) -> Tensor:
            return given.index_fill(-1, torch.tensor([unit]), 0.0)

        with torch.no_grad():
            rest = with_neurons(model, tokens, {"up": "down"}, zero)
            lost = (model(tokens) - rest)[:, PROMPT - 1 : TOKENS - 1]
        mean = lost.gather(-1, study.labels[..., None])[..., 0].mean(1)
        assert found.values[:, unit] == pytest.approx(mean.numpy(), abs=1e-5)


def test_integrated_gradients_are_complete_and_equal_a_slow_version() -> None:
    study = study_of(loud_gpt(), 2)
    tokens = study.inputs
    assert isinstance(tokens, Tensor)
    fine = integrated_gradients(study, steps=200, progress=False)
    assert fine.missed is not None and np.abs(fine.missed).max() < 1e-3
    # Something was explained, so that missing it would show.
    assert np.abs(fine.values).sum(1).min() > 0.05
    found = integrated_gradients(study, [1], steps=3, progress=False).values[0]
    expected = []
    for layer, projection in READERS.items():
        total = torch.zeros(24)
        for token in range(TOKENS - PROMPT):
            place = PROMPT - 1 + token
            for alpha in (1 / 6, 3 / 6, 5 / 6):
                kept: list[Tensor] = []

                def scale(
                    _: str,
                    given: Tensor,
                    place: int = place,
                    alpha: float = alpha,
                    kept: list[Tensor] = kept,
                ) -> Tensor:
                    whole = given.detach().clone()
                    part = (alpha * whole[0, place]).requires_grad_()
                    kept += [whole[0, place].clone(), part]
                    whole[0, place] = part
                    return whole

                logits = with_neurons(study.model, tokens[1:2], {layer: projection}, scale)
                chance = logits[0, place].softmax(-1)[study.labels[1, token]]
                (slope,) = torch.autograd.grad(chance, [kept[1]])
                total += kept[0] * slope / 3
        expected.append(total / (TOKENS - PROMPT))
    assert found == pytest.approx(torch.cat(expected).numpy(), abs=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_zero_out_and_activations_equal_plain_hooks(name: str) -> None:
    study, readers = family(name)
    tokens = study.inputs
    assert isinstance(tokens, Tensor)
    lost, strong = zero_out(study, progress=False), activations(study, progress=False)
    assert list(dict.fromkeys(unit.layer for unit in lost.units)) == list(readers)
    assert len(lost.units) == 40
    given: dict[str, Tensor] = {}
    with torch.no_grad():
        clean = with_neurons(
            study.model, tokens, readers, lambda layer, h: given.setdefault(layer, h)
        )
        for row in (0, 7, 33):
            unit = lost.units[row]

            def zero(layer: str, h: Tensor, unit: mv.Unit = unit) -> Tensor:
                if layer != unit.layer:
                    return h
                return h.index_fill(-1, torch.tensor([unit.index]), 0.0)

            change = losses(study, with_neurons(study.model, tokens, readers, zero))
            change -= losses(study, clean)
            assert lost.values[:, row] == pytest.approx(change.numpy(), abs=2e-5)
    written = []
    for layer, projection in readers.items():
        weight = study.model.get_submodule(projection).get_parameter("weight")
        lengths = weight.detach().norm(dim=1 if name == "gpt2" else 0)
        h = given[layer].view(4, TOKENS, 20)[:, PROMPT - 1 : TOKENS - 1]
        written.append(h.abs().mean(1) * lengths)
    assert strong.values == pytest.approx(torch.cat(written, 1).numpy(), rel=1e-4, abs=1e-6)


def test_slimming_equals_a_slow_version() -> None:
    study = study_of(loud_gpt(), 2)
    tokens = study.inputs
    assert isinstance(tokens, Tensor)
    masks = [torch.ones(24, requires_grad=True) for _ in READERS]
    optimizer = torch.optim.Adam(masks, lr=0.1)
    for _ in range(5):
        by_layer = dict(zip(READERS, masks, strict=True))
        logits = with_neurons(
            study.model, tokens[1:], READERS, lambda layer, h, by=by_layer: h * by[layer]
        )
        penalty = sum(mask.abs().sum() for mask in masks) / 48
        slopes = torch.autograd.grad(losses(study, logits, slice(1, 2)).sum() + 2 * penalty, masks)
        for mask, slope in zip(masks, slopes, strict=True):
            mask.grad = slope
        optimizer.step()
        with torch.no_grad():
            for mask in masks:
                mask.clamp_(0, 1)
    found = slimming(study, strength=2, rate=0.1, steps=5, enough=0, progress=False)
    assert found.values[1] == pytest.approx(torch.cat(masks).detach().numpy(), abs=1e-4)


def test_hard_concrete_equals_a_slow_version() -> None:
    study = study_of(loud_gpt(), 2)
    tokens = study.inputs
    assert isinstance(tokens, Tensor)
    beta, draws = 0.5, generator_of(3, 1)
    log_m = torch.full((48,), math.log(0.25 / 0.75), requires_grad=True)
    optimizer = torch.optim.Adam([log_m], lr=0.1)
    for _ in range(4):
        u = torch.rand(48, generator=draws).clamp(1e-4, 1 - 1e-4)
        soft = torch.sigmoid((torch.log(u / (1 - u)) + log_m) / beta)
        by_layer = dict(zip(READERS, (1.2 * soft - 0.1).clamp(0, 1).split(24), strict=True))
        logits = with_neurons(
            study.model, tokens[1:], READERS, lambda layer, h, by=by_layer: h * by[layer]
        )
        share = torch.sigmoid(log_m - beta * math.log(0.1 / 1.1)).mean()
        (log_m.grad,) = torch.autograd.grad(
            losses(study, logits, slice(1, 2)).sum() + 7 * share, [log_m]
        )
        optimizer.step()
    found = hard_concrete(
        study,
        strength=7,
        rate=0.1,
        steps=4,
        enough=0,
        start=0.2,
        temperature=beta,
        seed=3,
        progress=False,
    )
    assert found.values[1] == pytest.approx(log_m.detach().sigmoid().numpy(), abs=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_passage_does_not_depend_on_the_others_or_their_order(name: str) -> None:
    study = study_of(loud_gpt())
    together = METHODS[name](study, [4, 0, 2], progress=False)
    assert together.examples.tolist() == [4, 0, 2]
    for row, example in enumerate((4, 0, 2)):
        alone = METHODS[name](study, [example], progress=False)
        assert together.values[row] == pytest.approx(alone.values[0], abs=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("stopped", [False, True])
def test_model_and_generator_are_as_they_were(name: str, stopped: bool) -> None:
    study = study_of(loud_gpt())
    study.model.requires_grad_(False)
    study.model.blocks[0].up.weight.requires_grad_()  # type: ignore[index, union-attr]
    before = {key: value.clone() for key, value in study.model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in study.model.parameters()]
    state = torch.get_rng_state()
    if stopped:
        with pytest.raises(mv.CancelledError):
            METHODS[name](study, progress=False, stop=lambda: True)
    else:
        with torch.no_grad():
            METHODS[name](study, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    after = study.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert flags == [parameter.requires_grad for parameter in study.model.parameters()]
    assert all(parameter.grad is None for parameter in study.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in study.model.modules())


def test_scores_are_the_difference_of_two_groups_and_the_null_has_none() -> None:
    table = activations(study_of(loud_gpt(), 40), progress=False)
    scores = table.scores()
    assert scores.values == pytest.approx(
        table.values[:20].mean(0) - table.values[20:].mean(0), abs=1e-12
    )
    assert scores.null is not None
    low, high = scores.null.interval
    # Both groups are random passages: the difference is one draw of the null.
    assert ((low <= scores.values) & (scores.values <= high)).mean() > 0.8
    assert table.of_example(3).values == pytest.approx(table.values[3])
    again = activations(study_of(loud_gpt(), 40), torch.arange(40).flip(0), progress=False)
    assert again.scores().values == pytest.approx(scores.values, abs=1e-9)


@pytest.mark.parametrize("name", OURS)
def test_the_registry_finds_them_and_they_refuse_other_tasks(name: str) -> None:
    assert LOCALIZERS[name] is OURS[name]
    groups = {"memorized": [0], "clean": [1, 2]}
    study = mv.Study(nn.Linear(4, 3).eval(), torch.randn(3, 4), torch.zeros(3), groups)
    with pytest.raises(ValueError, match="the study's task is Classification; give a study with"):
        OURS[name](study)


def test_bad_input_gets_one_sentence() -> None:
    study = study_of(loud_gpt())
    successor = study_of(nn.Embedding.from_pretrained(torch.eye(VOCABULARY)))
    table = activations(study, [0, 1], progress=False)
    for call, words in (
        (lambda: activations(successor), "Embedding has no"),
        (lambda: activations(study, [1, 1]), "examples names an example twice"),
        (lambda: activations(study, [6]), "6"),
        (lambda: slimming(study, strength=-1.0), "strength is -1"),
        (lambda: hard_concrete(study, start=1.0), "start is 1"),
        (lambda: integrated_gradients(study, steps=0), "steps is 0"),
        (lambda: integrated_gradients(study, of="loss"), "of is 'loss'"),
        (lambda: table.of_example(3), "example 3 is not among the 2 passages"),
        (lambda: table.scores("memorized", "clean"), "none of the passages of this table is in"),
        (lambda: table.scores("nobody"), "nobody"),
    ):
        with pytest.raises((ValueError, IndexError, KeyError), match=words):
            call()


def test_a_model_that_bends_zero_is_refused_for_zero_out() -> None:
    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.up = nn.Embedding(VOCABULARY, 4), nn.Linear(4, 6)
            self.down = nn.Linear(6, VOCABULARY)

        def forward(self, tokens: Tensor) -> Tensor:
            h = self.up(self.embed(tokens))
            logits: Tensor = self.down((h * h).exp() * 0.5)
            return logits

    study = study_of(Bent())
    assert activations(study, progress=False).values.shape == (6, 6)
    with pytest.raises(ValueError, match="the non-linearity of 'up' makes 0.5 of 0"):
        zero_out(study, progress=False)


def test_passages_of_a_language_task_only() -> None:
    tokens = passages(4)
    task = Language(PROMPT, TOKENS - PROMPT)
    study = mv.Study(loud_gpt(), tokens, tokens[:, PROMPT:], {"all": range(4)}, task=task)
    with pytest.raises(ValueError, match="this study has only the group 'all'"):
        OURS["slimming"](study)


@pytest.mark.parametrize("name", METHODS)
def test_padding_on_the_left_changes_nothing(name: str) -> None:
    model, tokens = loud_gpt(), passages(2)[:, 3:]
    groups, pads = {"memorized": [0], "clean": [1]}, torch.zeros(2, 3, dtype=torch.int64)
    padded = {
        "input_ids": torch.cat([pads, tokens], 1),
        "attention_mask": torch.cat([pads, torch.ones_like(tokens)], 1),
    }
    labels, count = tokens[:, PROMPT - 3 :], TOKENS - PROMPT
    plain = mv.Study(model, tokens, labels, groups, task=Language(PROMPT - 3, count))
    longer = mv.Study(model, padded, labels, groups, task=Language(PROMPT, count))
    expected = METHODS[name](plain, progress=False).values
    assert METHODS[name](longer, progress=False).values == pytest.approx(expected, abs=1e-5)
