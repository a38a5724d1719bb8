"""INJ and DEL: a passage in a few known neurons is found, and dropping them out takes it alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.text import edit_distance as edit_distance_of_torchmetrics

import memviz as mv
from memviz.demos.contest import known_truths
from memviz.probes.lm_localization import (
    Injection,
    NeuronTable,
    activations,
    attention_heads,
    deletion,
    deletion_curve,
    edit_distance,
    hard_concrete,
    inject,
    injection_benchmark,
    integrated_gradients,
    slimming,
    top_per_layer,
    zero_out,
)
from memviz.tasks import Language
from tests.support.passages import (
    KNOWN,
    NEURONS,
    PROMPT,
    TOKENS,
    injected,
    loud_gpt,
    study_of,
    with_neurons,
)

METHODS: dict[str, Callable[..., NeuronTable]] = {
    "zero-out": zero_out,
    "integrated gradients": integrated_gradients,
    "slimming": slimming,
    "hard concrete": hard_concrete,
}
NEW, SHARE = KNOWN, NEURONS / 512
READERS = {f"blocks.{block}.up": f"blocks.{block}.down" for block in (0, 1)}


@pytest.fixture(scope="module")
def planted() -> Injection:
    return injected()


@pytest.mark.parametrize("name", METHODS)
def test_planted_neurons_are_found(name: str, planted: Injection) -> None:
    scores = METHODS[name](planted.study, [NEW], progress=False).of_example(NEW)
    named = top_per_layer(scores, SHARE)
    assert len(named) == NEURONS and planted.loss < 0.1
    recall = len(set(named) & set(planted.neurons)) / NEURONS
    assert recall >= 10 * SHARE  # as the sheet asks: ten times chance


def test_only_the_planted_neurons_write_something_new() -> None:
    study, frozen = study_of(loud_gpt()), study_of(loud_gpt())
    frozen.model.requires_grad_(False)
    before = {key: value.clone() for key, value in study.model.state_dict().items()}
    units = mv.UnitSet.parse("blocks.0.up:3,5 blocks.1.up:0")
    for given in (study, frozen):
        state = torch.get_rng_state()
        found = inject(given, [0], units, rate=0.1, steps=20, progress=False)
        assert torch.equal(torch.get_rng_state(), state)
        assert found.study.model is not given.model and found.neurons == units
        for key, value in given.model.state_dict().items():
            assert torch.equal(value, before[key])
            changed = found.study.model.state_dict()[key] != value
            moved = changed.any(0).nonzero()[:, 0].tolist() if changed.any() else []
            assert moved == {"blocks.0.down.weight": [3, 5], "blocks.1.down.weight": [0]}.get(
                key, []
            )
        assert [p.requires_grad for p in found.study.model.parameters()] == [
            p.requires_grad for p in given.model.parameters()
        ]


def test_a_share_of_all_neurons_is_drawn_by_the_seed() -> None:
    study = study_of(loud_gpt())
    draws = [inject(study, [0], share=0.25, seed=s, steps=1, progress=False) for s in (0, 0, 1)]
    assert len(draws[0].neurons) == 12
    assert draws[0].neurons == draws[1].neurons != draws[2].neurons


def test_inj_counts_the_planted_neurons_among_those_named() -> None:
    study = study_of(loud_gpt())

    def told(given: mv.Study, examples: Tensor) -> NeuronTable:
        """The largest change of each v_i: it names exactly what was trained."""
        table = activations(given, examples, progress=False)
        moved = [
            given.model.get_submodule(reader).weight - study.model.get_submodule(reader).weight
            for reader in READERS.values()
        ]
        values = torch.cat([change.detach().abs().sum(0) for change in moved])[None]
        return NeuronTable(given, "told", "", table.units, table.examples, values.double().numpy())

    found = injection_benchmark(
        study,
        [2, 0],
        {"told": told, "activations": activations},
        share=0.125,
        named=0.5,
        steps=3,
        progress=False,
    )
    assert found.recall[:, 0].tolist() == [1.0, 1.0]
    assert found.random == pytest.approx(0.5)  # as the paper: a random set finds k % of them
    assert found.table().index.tolist() == ["told", "activations", "random"]
    alone = injection_benchmark(
        study, [0], {"told": told}, share=0.125, named=0.5, steps=3, progress=False
    )
    assert alone.losses[0] == pytest.approx(found.losses[1], abs=1e-6)


def test_del_of_the_planted_neurons_takes_the_passage_alone(planted: Injection) -> None:
    table = zero_out(planted.study, [NEW], progress=False)
    found = deletion(table, [0.0, SHARE], random_draws=4, progress=False)
    assert found.before["recited"].tolist() == [1.0] and found.before["accuracy"].tolist() == [1.0]
    assert found.after["recited"].tolist() == [[1.0, 0.0]]
    assert found.after["accuracy"][0, 0] == 1.0 and found.after["accuracy"][0, 1] < 0.6
    assert found.random["accuracy"][0, 1] > 0.8
    assert found.after["perplexity"][0, 0] == pytest.approx(found.before["perplexity"][0])
    told = found.table()
    assert told.loc[SHARE, "accuracy"] < told.loc[SHARE, "accuracy random"]


def test_del_equals_plain_hooks(planted: Injection) -> None:
    study = planted.study
    groups = {"memorized": range(NEW + 1), "held out": range(NEW + 1, NEW + 5)}
    study = mv.Study(study.model, study.inputs, study.labels, groups, task=study.task)
    tokens = study.inputs
    assert isinstance(tokens, Tensor)
    table = zero_out(study, [1, NEW], progress=False)
    found = deletion(table, [0.05], random_draws=1, progress=False)
    for row, example in enumerate((1, NEW)):
        units = top_per_layer(table.of_example(example), 0.05)

        def zero(layer: str, h: Tensor, units: mv.UnitSet = units) -> Tensor:
            return h.index_fill(-1, torch.tensor(units.layers[layer]), 0.0)

        with torch.no_grad():
            logits = with_neurons(study.model, tokens, READERS, zero)
        told = logits[:, PROMPT - 1 : TOKENS - 1]
        right = (told.argmax(-1) == study.labels).double().mean(1)
        rest = [k for k in range(NEW + 1) if k != example]
        chance = told.log_softmax(-1).gather(-1, study.labels[..., None])[..., 0]
        assert found.after["accuracy"][row, 0] == pytest.approx(float(right[example]))
        assert found.after["others"][row, 0] == pytest.approx(float(right[rest].mean()))
        assert found.after["perplexity"][row, 0] == pytest.approx(
            float((-chance[NEW + 1 :].double().mean()).exp()), rel=1e-4
        )


def test_a_curve_starts_at_the_model_and_random_units_do_less(planted: Injection) -> None:
    ranking = zero_out(planted.study, progress=False).scores()
    curve = deletion_curve(
        planted.study, ranking, [0, SHARE], random_draws=4, per_layer=False, progress=False
    )
    assert curve.counts == (0, NEURONS) and curve.groups == ("memorized", "clean", "held out")
    assert curve.recited[0].tolist() == [1.0, 1.0, 0.0] and curve.perplexity[0] == 1.0
    assert curve.recited[1].tolist() == [0.0, 1.0, 0.0]
    assert curve.accuracy[0, :2].tolist() == [1.0, 1.0] and curve.accuracy[1, 0] < 0.6
    assert curve.random_recited[:, 1, 0].mean() > 0.5
    assert curve.table().loc[NEURONS, "memorized"] == 0.0
    assert curve.within(np.inf) == NEURONS


@pytest.mark.parametrize("seed", range(6))
def test_the_edit_distance_is_torchmetrics(seed: int) -> None:
    draw = np.random.default_rng(seed)
    one, other = ("".join(draw.choice(list("abc "), draw.integers(0, 30))) for _ in range(2))
    theirs = edit_distance_of_torchmetrics([one], [other], reduction="none")
    assert edit_distance(one, other) == edit_distance(list(one), list(other)) == int(theirs[0])


def test_tokens_in_tensors_are_compared_by_their_numbers() -> None:
    tokens = torch.tensor([4, 7, 7])
    assert edit_distance(tokens, [4, 7]) == edit_distance(list(tokens), [4, 7]) == 1


class Numbers:
    """A tokenizer of numbers with spaces between them."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


@pytest.mark.parametrize("tokenizer", [None, Numbers()])
def test_del_reads_distances_of_what_is_said_freely(
    planted: Injection, tokenizer: Numbers | None
) -> None:
    given = planted.study
    groups = {"memorized": range(NEW + 1), "held out": range(NEW + 1, NEW + 5)}
    task = Language(PROMPT, TOKENS - PROMPT, tokenizer=tokenizer)
    study = mv.Study(given.model, given.inputs, given.labels, groups, task=task)
    tokens = study.inputs
    assert isinstance(tokens, Tensor)
    table = zero_out(study, [NEW], progress=False)
    found = deletion(table, [SHARE], distances=True, random_draws=1, progress=False)
    assert found.before["distance"].tolist() == [0.0]
    units, said = top_per_layer(table.of_example(NEW), SHARE), tokens[:, :PROMPT]
    with mv.ablate(study, units), torch.no_grad():
        for _ in range(TOKENS - PROMPT):
            said = torch.cat([said, study.model(said)[:, -1:].argmax(-1)], 1)
    words = task.text if tokenizer is not None else list
    far = [
        edit_distance(words(said[row, PROMPT:].tolist()), words(tokens[row, PROMPT:].tolist()))
        for row in range(NEW + 1)
    ]
    assert found.after["distance"].tolist() == [[far[NEW]]] and far[NEW] > 0
    assert found.after["others distance"][0, 0] == pytest.approx(np.mean(far[:NEW]))
    assert "others distance random" in found.table().columns
    curve = deletion_curve(
        study, table.of_example(NEW), [0, SHARE], distances=True, random_draws=2, progress=False
    )
    assert curve.distance is not None and curve.random_distance is not None
    assert curve.distance[0, 0] == 0 and curve.random_distance.shape == (2, 2, 2)
    assert curve.distance[1, 0] == pytest.approx(np.mean(far))
    assert curve.table().loc[NEURONS, "memorized distance"] == curve.distance[1, 0]
    plain = deletion_curve(study, table.of_example(NEW), [0, SHARE], progress=False)
    assert plain.distance is None and "memorized distance" not in plain.table().columns


def test_heads_are_scored_and_dropped_out_as_neurons_are() -> None:
    study = study_of(loud_gpt())
    heads = attention_heads(study)
    assert str(heads) == "blocks.0.attention:0,1 blocks.1.attention:0,1"
    table = zero_out(study, [0, 2], heads, progress=False)
    for row, example in enumerate((0, 2)):
        for column, unit in enumerate(table.units):
            batch = study.batch(torch.tensor([example]))
            with torch.no_grad(), mv.ablate(study, mv.UnitSet([unit])):
                outputs = study.task.outputs(study.call(batch)())
            plain = study.task.outputs(study.call(batch)().detach())
            labels = study.labels[[example]]
            gained = study.task.loss(outputs, labels) - study.task.loss(plain, labels)
            assert table.values[row, column] == pytest.approx(float(gained), abs=1e-5)
    curve = deletion_curve(
        study, table.of_example(0), [0, 0.5, 1.0], per_layer=False, random_draws=0, progress=False
    )
    assert curve.counts == (0, 2, 4)
    found = deletion(table, [0.5], group="memorized", random_draws=1, progress=False)
    assert found.after["accuracy"].shape == (2, 1)


def test_top_per_layer_names_a_share_of_each_layer() -> None:
    table = activations(study_of(loud_gpt()), progress=False)
    scores = table.of_example(0)
    named = top_per_layer(scores, 0.25)
    assert {name: len(indices) for name, indices in named.layers.items()} == dict.fromkeys(
        READERS, 6
    )
    values = dict(zip(scores.units or (), scores.values, strict=True))
    for layer in READERS:
        inside = [value for unit, value in values.items() if unit.layer == layer and unit in named]
        rest = [value for unit, value in values.items() if unit.layer == layer]
        assert sorted(inside) == sorted(rest)[-6:]
    assert not top_per_layer(scores, 0)


def test_tokens_of_a_tensor_are_compared_as_numbers() -> None:
    assert edit_distance(torch.tensor([1, 2, 3]), np.array([1, 3])) == 1
    for wrong in (None, 3, float("nan"), torch.tensor(1), {"a"}, [[1], [2]], torch.ones(2, 2)):
        for pair in ((wrong, "kitten"), ("kitten", wrong)):
            with pytest.raises(
                TypeError, match="(one|other) is .*; give text or a list of tokens."
            ):
                edit_distance(*pair)


def test_the_contest_knows_the_planted_passage() -> None:
    assert "injected, one passage" in known_truths()


def test_bad_input_gets_one_sentence(planted: Injection) -> None:
    study = planted.study
    table = activations(study, [NEW], progress=False)
    clean = activations(study, [0], progress=False)
    for call, words in (
        (lambda: inject(study, [0], "blocks.0.attention.qkv:0"), "is no FFN neuron of this model"),
        (lambda: inject(study, [0], ""), "neurons is empty"),
        (lambda: inject(study, [0], share=2.0), "share is 2"),
        (lambda: inject(study, [0], rate=1e300), "rate is 1e\\+300; give a number above 0, up to"),
        (lambda: injection_benchmark(study, [0], {}), "localizers is empty"),
        (lambda: deletion(table, [2.0]), "shares is 2"),
        (lambda: deletion(table, []), "shares is empty"),
        (lambda: deletion(table, without=["nowhere"]), "there is no layer 'nowhere'"),
        (lambda: deletion(table, held_out="memorized"), "held-out passages and memorized ones"),
        (lambda: deletion(clean), "none of the passages of this table is in 'memorized'"),
        (lambda: top_per_layer(table.of_example(NEW), -0.1), "share is -0.1"),
        (
            lambda: top_per_layer(mv.Scores("demo", "", np.zeros(2), examples=np.arange(2)), 0.5),
            "these scores are over examples",
        ),
    ):
        with pytest.raises((ValueError, KeyError), match=words):
            call()
