"""Heads and neurons of causal language models, in every engine and while they generate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import memviz as mv
from tests.support.language_models import HEADS, HIDDEN, MODELS, build, hooked, passages, places

PROMPT, NEW = 4, 6
FAMILIES = list(MODELS)


def some_units(family: str) -> dict[str, list[int]]:
    """Two heads of the first block, one of the last, and neurons of both."""
    first_heads, first_mlp, last_heads, last_mlp = places(family)
    return {first_heads: [0, 3], first_mlp: [2, 7, 11], last_heads: [1], last_mlp: [0, 23]}


def said(model: Any, prompts: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Generated tokens ``[n, NEW]`` and their logits ``[n, NEW, vocabulary]``."""
    made = model.generate(
        prompts,
        **{"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False},
        **{"return_dict_in_generate": True, "output_logits": True, "eos_token_id": None},
        **{"pad_token_id": 0, **options},
    )
    return made.sequences[:, prompts.shape[1] :], torch.stack(made.logits, 1)


def without_cache(model: Any, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """The same, by the whole sequence again for each token, in a loop of our own."""
    tokens, logits = prompts, []
    for _ in range(NEW):
        logits.append(model(tokens, use_cache=False).logits[:, -1])
        tokens = torch.cat([tokens, logits[-1].argmax(-1, keepdim=True)], 1)
    return tokens[:, prompts.shape[1] :], torch.stack(logits, 1)


def close(given: Tensor, wanted: Tensor) -> None:
    scale = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_and_neurons_are_the_units(family: str) -> None:
    tokens = passages()
    study = mv.Study(
        build(family),
        {"input_ids": tokens},
        tokens[:, PROMPT:],
        {"memorized": range(3), "clean": range(3, 6)},
        task=mv.tasks.Language(PROMPT, NEW),
    )
    sizes = {layer.name: layer.units for layer in mv.layers(study)}
    for layer, size in zip(places(family), [HEADS, HIDDEN] * 2, strict=True):
        assert sizes[layer] == size


@pytest.mark.parametrize("engine", ["auto", "replay", "hook"])
@pytest.mark.parametrize("family", FAMILIES)
def test_sweeps_and_readouts_are_those_of_plain_hooks(family: str, engine: str) -> None:
    model, tokens, where = build(family), passages(), places(family)
    task, labels = mv.tasks.Language(PROMPT, NEW), tokens[:, PROMPT:]
    groups = {"memorized": range(3), "clean": range(3, 6)}
    study = mv.Study(model, {"input_ids": tokens}, labels, groups, task=task)
    heads = {name: range(HEADS) for name, place in where.items() if place.width > 1}
    neurons = {name: [0, 5, 23] for name, place in where.items() if place.width == 1}
    effects = mv.sweep(study, mv.UnitSet(heads | neurons), engine=engine, progress=False)
    with torch.no_grad():
        for row, unit in enumerate(effects.units):
            with hooked(model, {unit.layer: [unit.index]}, where):
                wanted = task.margin(task.outputs(model(tokens)), labels)
            close(effects.margin + effects.margin_change[row], wanted)
        assert float(effects.margin_change.abs().amax(1).median()) > 1e-3
        units = some_units(family)
        with hooked(model, units, where):
            wanted = task.predictions(task.outputs(model(tokens)))
    assert torch.equal(mv.readout(study, mv.UnitSet(units), random_draws=0).after, wanted)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_generate_with_a_cache_is_that_without_and_that_of_hooks(family: str) -> None:
    model, prompts, where = build(family), passages(tokens=PROMPT), places(family)
    clean = said(model, prompts)
    changed = 0
    for units in (some_units(family), *({name: [1]} for name in where)):
        with hooked(model, units, where):
            wanted = without_cache(model, prompts)
        with mv.ablate(model, mv.UnitSet(units)):
            cached, plain = said(model, prompts), said(model, prompts, use_cache=False)
            looped = without_cache(model, prompts)
        for tokens, logits in (cached, plain, looped):
            assert torch.equal(tokens, wanted[0])
            close(logits, wanted[1])
        changed += not torch.equal(wanted[0], clean[0])
        assert not torch.allclose(wanted[1], clean[1], atol=1e-4)
    assert changed  # other tokens, not other logits alone
    after = said(model, prompts)
    assert torch.equal(after[0], clean[0])
    assert torch.equal(after[1], clean[1])


def batch(rows: list[Tensor], side: str) -> dict[str, Tensor]:
    """Rows of several lengths, padded with 0, with their mask and their positions."""
    longest = max(map(len, rows))
    tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for number, row in enumerate(rows):
        at = slice(longest - len(row), None) if side == "left" else slice(0, len(row))
        tokens[number, at], mask[number, at] = row, 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}


@pytest.mark.parametrize("ablated", [False, True], ids=["clean", "ablated"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_padded_batches_give_what_single_sequences_give(
    family: str, side: str, ablated: bool
) -> None:
    model, where = build(family), places(family)
    rows = [row[:length] for row, length in zip(passages(), [3, 8, 5, 10, 8, 1], strict=True)]
    units = some_units(family) if ablated else {}
    with hooked(model, units, where):
        alone = [model(row[None]).logits[0] for row in rows]
        spoken = [without_cache(model, row[None])[0][0] for row in rows]
    padded = batch(rows, side)
    with mv.ablate(model, mv.UnitSet(units)):
        logits = model(**padded).logits
        for row, wanted in enumerate(alone):
            close(logits[row][padded["attention_mask"][row].bool()], wanted)
        if side == "left":  # generate() goes on at the end of the batch
            tokens, _ = said(model, padded["input_ids"], attention_mask=padded["attention_mask"])
            assert torch.equal(tokens, torch.stack(spoken))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_of_padded_passages_has_the_effects_of_single_ones(family: str, side: str) -> None:
    """On the left the prompts have different lengths, on the right what follows the passage."""
    model, where, task = build(family), places(family), mv.tasks.Language(PROMPT, NEW)
    if side == "left":
        rows = [row[cut:] for row, cut in zip(passages(), [0, 3, 1, 2, 0, 3], strict=True)]
    else:
        lengths = [10, 12, 13, 11, 13, 10]
        rows = [row[:length] for row, length in zip(passages(tokens=13), lengths, strict=True)]
    padded = batch(rows, side)
    labels = padded["input_ids"][:, PROMPT : PROMPT + NEW]
    groups = {"memorized": range(3), "clean": range(3, 6)}
    study = mv.Study(model, padded, labels, groups, task=task)
    units = mv.UnitSet({layer: [0, 2] for layer in where})
    sweeps = [mv.sweep(study, units, engine=engine, progress=False) for engine in ("auto", "hook")]
    for at, unit in enumerate(sweeps[0].units):
        number = at % len(rows)  # one passage a unit
        first = len(rows[number]) - NEW - 1 if side == "left" else PROMPT - 1
        with torch.no_grad(), hooked(model, {unit.layer: [unit.index]}, where):
            logits = model(rows[number][None]).logits[:, first : first + NEW]
        wanted = task.margin(logits, labels[number : number + 1])[0]
        for effects in sweeps:
            close(effects.margin[number] + effects.margin_change[at, number], wanted)
