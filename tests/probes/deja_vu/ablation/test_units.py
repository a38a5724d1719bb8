"""Déjà vu with units ablated, against plain hooks on open_clip's own modules."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from memviz.data.scenes import OBJECTS, caption, draw_scenes
from memviz.engine.record import CancelledError, Zero, intervention
from memviz.engine.sets import random_units
from memviz.models.clip import Clip, create_clip
from memviz.probes.deja_vu import Embedded, two_model_test
from memviz.probes.deja_vu.ablation import (
    MEASURES,
    UTILITY_FIRST,
    Retrieval,
    first_units,
    gap_curve,
    lost_aucg,
    measured,
    pair_effects,
    random_steps,
    unit_effects,
    unit_layers,
)
from memviz.scores import Scores
from memviz.units import Unit, UnitSet
from tests.support.retrievals import small_retrieval

K, TOP = 4, 3
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CFG = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
PREPROCESS = {"mean": [0.25] * 3, "std": [0.25] * 3, "size": 32}
BLOCK = "transformer.resblocks.0"
FC, HEADS, PATCHES = f"{BLOCK}.mlp.c_fc", f"{BLOCK}.attn", "visual.conv1"
VISUAL_FC = f"visual.{FC}"
SETS = draw_scenes(3, target=12, reference=12, public=30, held_out=25)


def query(name: str) -> str:
    return caption([name], [])


def spread(seed: int) -> Clip:
    """An untrained model whose captions are not all alike."""
    clip = create_clip(CFG, PREPROCESS, seed=seed)
    with torch.no_grad():
        for name, weight in clip.model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(20 if "embedding" in name else 3)
    return clip


TARGET, REFERENCE = spread(1), spread(2)


def retrieval(reference: Clip | Embedded = REFERENCE) -> Retrieval:
    sets = (SETS.target, SETS.public, SETS.held_out)
    return Retrieval(TARGET, reference, *sets, query=query, k=K, top=TOP)


@pytest.fixture(scope="module")
def found() -> Retrieval:
    return retrieval()


# The slow way: a copy of the model, a hook or a changed weight for each unit, open_clip's encoders.

PICTURES = {name: pairs.inputs(TARGET.preprocess) for name, pairs in SETS.named().items()}
CAPTIONS = {name: TARGET.tokenizer(list(pairs.captions)) for name, pairs in SETS.named().items()}
QUERIES = TARGET.tokenizer([query(name) for name in OBJECTS])
# What means are taken over: all that either tower is shown in a test.
SHOWN = {
    "visual": torch.cat([PICTURES["public"], PICTURES["held_out"]]),
    "text": torch.cat([CAPTIONS["target"], CAPTIONS["held_out"], QUERIES]),
}


def encode(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        images = inputs.is_floating_point()
        encoder = model.encode_image if images else model.encode_text
        return encoder(inputs, normalize=True)


def mean_of(name: str) -> torch.Tensor:
    """A module's mean output, each unit over all examples and positions."""
    model, seen = copy.deepcopy(TARGET.model), []
    model.get_submodule(name).register_forward_hook(lambda _, __, out: seen.append(out))
    encode(model, SHOWN["visual" if name.startswith("visual") else "text"])
    return seen[0].flatten(0, -2).mean(0)


def hooked(units: str, how: str) -> torch.nn.Module:
    """A copy of the target whose units are ablated without memviz."""
    model = copy.deepcopy(TARGET.model)
    for layer, rows in UnitSet.of(units).layers.items():
        if layer.endswith("attn"):
            weight = model.get_submodule(layer).out_proj.weight.data  # heads by their features
            for head in rows:
                weight[:, 16 * head : 16 * (head + 1)] = 0
            continue
        place, axis, value = layer, -1, torch.zeros(len(rows))
        if layer == PATCHES:
            axis = 1
        elif how == "filter":
            value = model.get_submodule(layer).bias.detach()[list(rows)]
        else:
            place = layer.replace("c_fc", "gelu")  # a unit is what comes behind the non-linearity
            value = mean_of(place)[list(rows)] if how == "mean" else value

        def hook(_, __, out, rows=rows, axis=axis, value=value):
            out = out.clone().movedim(axis, -1)
            out[..., list(rows)] = value
            return out.movedim(-1, axis)

        model.get_submodule(place).register_forward_hook(hook)
    return model


def slow_embedded(model: torch.nn.Module, name: str = "target") -> Embedded:
    return Embedded(
        encode(model, CAPTIONS["target"]),
        encode(model, PICTURES["public"]),
        encode(model, CAPTIONS["held_out"]),
        name,
    )


def slow_test(model: torch.nn.Module):
    return two_model_test(
        slow_embedded(model),
        slow_embedded(REFERENCE.model, "reference"),
        SETS.target.objects,
        SETS.public.objects,
        held_out_objects=SETS.held_out.objects,
        k=K,
        top=TOP,
        progress=False,
    )


def slow_utility(model: torch.nn.Module) -> float:
    texts, pictures = encode(model, QUERIES), encode(model, PICTURES["held_out"])
    shares = []
    for kind, text in enumerate(texts):
        shown = SETS.held_out.objects[:, kind]
        if shown.any():
            order = F.cosine_similarity(text[None], pictures).argsort(descending=True)
            shares.append(float(shown[order[:UTILITY_FIRST]].double().mean()))
    return sum(shares) / len(shares)


def same(one, other) -> None:
    for part in ("target", "reference"):
        ours, theirs = getattr(one, part), getattr(other, part)
        assert torch.equal(ours.neighbours.ids, theirs.neighbours.ids)
        assert torch.allclose(ours.neighbours.values, theirs.neighbours.values, atol=1e-5)
        assert torch.equal(ours.right, theirs.right)
        assert torch.equal(ours.predicted, theirs.predicted)
    assert (one.ppg, one.prg, one.aucg) == (other.ppg, other.prg, other.aucg)
    assert (one.null is None) == (other.null is None)
    if one.null is not None:
        same(one.null, other.null)


CASES = [
    (f"{FC}:5", "zero"),
    (f"{FC}:0-40", "filter"),
    (f"{FC}:3,9,77", "mean"),
    (f"{HEADS}:1", "zero"),
    (f"{PATCHES}:4-9", "zero"),
    (f"{VISUAL_FC}:0-30", "filter"),
    (f"{VISUAL_FC}:2,60", "mean"),
    (f"visual.{HEADS}:0", "zero"),
    (f"{FC}:0-20 {VISUAL_FC}:0-20", "zero"),
    (f"{FC}:0-20 {VISUAL_FC}:0-20", "mean"),
]


def test_the_case_tells_captions_and_units_apart(found):
    clean = found.clean.found
    assert len(clean.target.neighbours.ids.unique(dim=0)) > 6
    changed = [not torch.equal(slow_test(hooked(*case)).target.neighbours.ids,
                               clean.target.neighbours.ids) for case in CASES]  # fmt: skip
    assert sum(changed) >= len(CASES) - 2


def test_nothing_ablated_is_the_test_by_hand(found):
    for now in (found.clean, found.retrieve(""), found.retrieve(UnitSet(), "mean")):
        same(now.found, slow_test(TARGET.model))
        assert now.utility == pytest.approx(slow_utility(TARGET.model))
        assert not now.units


@pytest.mark.parametrize(("units", "how"), CASES)
def test_ablated_is_a_plain_hook(found, units, how):
    now, model = found.retrieve(units, how), hooked(units, how)
    same(now.found, slow_test(model))
    assert now.utility == pytest.approx(slow_utility(model))
    assert (now.units, now.how) == (UnitSet.of(units), how)


def test_towers_and_interventions_do_not_mix(found):
    # There and back, more often than answers are kept.
    for units, how in [*CASES, *CASES[::-1], CASES[0], CASES[4], CASES[8], CASES[9], CASES[0]]:
        chosen = UnitSet.of(units)
        ours, theirs = found.embedded(chosen, intervention(how)), slow_embedded(hooked(units, how))
        for part in ("captions", "public", "held_out"):
            assert torch.allclose(getattr(ours, part), getattr(theirs, part), atol=1e-5)
    clean = found.embedded(UnitSet(), Zero())
    text, image = (found.embedded(UnitSet.of(CASES[i][0]), Zero()) for i in (0, 4))
    assert torch.equal(text.public, clean.public)
    assert torch.equal(image.captions, clean.captions)
    assert not torch.allclose(text.captions, clean.captions)
    assert not torch.allclose(image.public, clean.public)


@pytest.mark.parametrize(("units", "how"), [("", "zero"), CASES[0], CASES[2], CASES[8], CASES[9]])
def test_asking_a_pairs_own_caption_gives_its_row(found, units, how):
    row, now = 5, found.retrieve(units, how).found
    sides = found.ask(SETS.target.captions[row], SETS.target.objects[row], units, how)
    for side, expected in zip(
        sides, (found.clean.found.target, now.target, now.reference), strict=True
    ):
        assert torch.equal(side.neighbours.ids[0], expected.neighbours.ids[row])
        assert (side.right[0], side.own[0]) == (expected.right[row], expected.own[row])


def test_another_caption_is_another_question(found):
    asked, objects = "Zoe and Ada with a moon in Oslo", SETS.target.objects[0]
    features = encode(TARGET.model, TARGET.tokenizer([asked]))
    order = F.cosine_similarity(features, encode(TARGET.model, PICTURES["public"]))
    side = found.ask(asked, objects)[0]
    assert torch.equal(side.neighbours.ids[0], order.argsort(descending=True)[:K])
    assert int(side.own[0]) == int(objects.sum())


def test_embeddings_as_the_reference():
    given = slow_embedded(REFERENCE.model, "reference")
    found = retrieval(given)
    same(found.clean.found, slow_test(TARGET.model))
    assert len(found.ask("a moon", SETS.target.objects[0])) == 2  # it can't be asked anything new


def test_a_reference_sees_pictures_through_its_own_preprocessing():
    size = {**CFG, "vision_cfg": {**VISION, "image_size": 16, "patch_size": 8}}
    for config, preprocess in ((CFG, {**PREPROCESS, "mean": [0.5] * 3}), (size, PREPROCESS)):
        other = create_clip(config, {**preprocess, "size": config["vision_cfg"]["image_size"]})
        pictures = SETS.public.inputs(other.preprocess)
        for clip in (other, replace(other, config={"model_cfg": config})):  # of a model by name
            embedded = F.normalize(retrieval(clip).reference.public, dim=1)
            assert torch.allclose(embedded, encode(other.model, pictures), atol=1e-6)


def test_sets_with_other_classes_are_refused():
    other = replace(SETS.public, class_names=[*OBJECTS[:-1], "zebra"])
    with pytest.raises(ValueError, match=r"give all sets the same object classes\.$"):
        Retrieval(TARGET, REFERENCE, SETS.target, other, SETS.held_out)
    fewer = SETS.held_out.subset(torch.arange(5))
    fewer = replace(fewer, objects=fewer.objects[:, :3], class_names=OBJECTS[:3], named=None)
    with pytest.raises(ValueError, match=r"\(24\) and another set zero, one, two;"):
        Retrieval(TARGET, REFERENCE, SETS.target, SETS.public, fewer)


@pytest.mark.parametrize("units", ["nowhere:1", f"{BLOCK}.ln_1:0", f"{FC}:1 visual.nothing:2"])
def test_an_unknown_layer_gets_one_sentence(found, units):
    for ask in (found.retrieve, lambda u: found.ask("a moon", SETS.target.objects[0], u)):
        with pytest.raises(ValueError, match="neither tower has a layer '.*' with units") as told:
            ask(units)
        assert FC in str(told.value) and "\n" not in str(told.value)


def test_an_unknown_unit_gets_a_sentence(found):
    with pytest.raises(IndexError, match="128"):
        found.retrieve(f"{FC}:128")
    same(found.retrieve(*CASES[0]).found, slow_test(hooked(*CASES[0])))


def test_no_trace_is_left():
    model = TARGET.model
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = retrieval()
    found.retrieve(*CASES[8])
    found.ask("a moon", SETS.target.objects[0], *CASES[2])
    unit_effects(found, [Unit(FC, 1)], progress=False)
    pair_effects(found, 0, progress=False)
    with pytest.raises(IndexError):
        found.retrieve(f"{FC}:128")
    with pytest.raises(CancelledError):
        found.retrieve(f"{FC}:100", stop=lambda: True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert "forward" not in module.__dict__ and not module.training
    same(found.retrieve(f"{FC}:100").found, slow_test(hooked(f"{FC}:100", "zero")))


# Units and curves.


def test_layers_of_both_towers(found):
    names = [layer.name for layer in unit_layers(found)]
    assert names[0] == HEADS and FC in names and PATCHES in names and VISUAL_FC in names
    assert names.index(PATCHES) > max(i for i, n in enumerate(names) if not n.startswith("visual"))


def test_a_units_effect_is_the_aucg_lost(found):
    units = [Unit(FC, 5), Unit(PATCHES, 4), Unit(HEADS, 1)]
    for how in ("zero", "filter"):
        scores = unit_effects(found, units, how, progress=False)
        before = slow_test(TARGET.model)
        assert scores.units == tuple(units) and scores.null is not None
        for place, unit in enumerate(units):
            after = slow_test(hooked(str(UnitSet([unit])), how))
            assert scores.values[place] == pytest.approx(before.aucg - after.aucg)
            lost = before.null.aucg - after.null.aucg
            assert scores.null.values[0, place] == pytest.approx(lost)
            one = lost_aucg(found, unit, intervention(how))
            assert one == (scores.values[place], scores.null.values[0, place])


def cosine(model: torch.nn.Module, name: str, row: int) -> float:
    sides = CAPTIONS[name][row : row + 1], PICTURES[name][row : row + 1]
    return float(F.cosine_similarity(*(encode(model, side) for side in sides)))


def test_a_pairs_effects_are_lost_cosines(found):
    row = 9
    scores = pair_effects(found, row, progress=False)
    assert len(scores.values) == sum(layer.units for layer in unit_layers(found))
    for unit in (Unit(FC, 5), Unit(PATCHES, 4), Unit(HEADS, 0), Unit(VISUAL_FC, 60)):
        place, model = scores.units.index(unit), hooked(str(UnitSet([unit])), "zero")
        for values, name in ((scores.values, "target"), (scores.null.values[0], "held_out")):
            lost = cosine(TARGET.model, name, row) - cosine(model, name, row)
            assert values[place] == pytest.approx(lost, abs=2e-6)
    for bad in (-1, len(SETS.target)):
        with pytest.raises(IndexError, match="0 to 11"):
            pair_effects(found, bad)


def ranking() -> Scores:
    units = [Unit(FC, i) for i in range(6)] + [Unit(PATCHES, i) for i in range(6)]
    return Scores("made up", "none", np.arange(12.0)[::-1].copy(), units=tuple(units))


def test_a_curve_begins_clean_and_ablates_the_highest(found):
    curve = gap_curve(found, ranking(), [0, 3, 8], random_draws=3, seed=7)
    clean = measured(found.clean)
    assert curve.counts == [0, 3, 8] and curve.name == "made up"
    assert curve.chosen.shape == (3, 7) and curve.random.shape == (3, 3, 7)
    assert curve.chosen[0].tolist() == clean
    assert (curve.random[:, 0] == clean).all()
    units = f"{FC}:0-5 {PATCHES}:0,1"
    expected = slow_test(hooked(units, "zero"))
    assert curve.chosen[2].tolist() == pytest.approx(
        [
            *(expected.ppg, expected.prg, expected.aucg),
            *(expected.null.ppg, expected.null.prg, expected.null.aucg),
            slow_utility(hooked(units, "zero")),
        ]
    )
    others = random_units(unit_layers(found), UnitSet.of(units), seed=7 + 2 * 3 + 1)
    assert {name: len(rows) for name, rows in others.layers.items()} == {FC: 6, PATCHES: 2}
    assert curve.random[1, 2].tolist() == measured(found.retrieve(others))
    again = gap_curve(found, ranking(), [0, 3, 8], random_draws=3, seed=7)
    assert np.array_equal(again.random, curve.random)


def test_units_of_equal_score_are_drawn_by_the_seed_not_by_their_place():
    def equal(units):
        return Scores("equal", "none", np.array([1.0] * (len(units) - 1) + [2.0]), units=units)

    units = tuple(Unit(FC, index) for index in range(12))
    first = [first_units(equal(units), 4, seed) for seed in range(20)]
    assert all(Unit(FC, 11) in chosen and len(chosen) == 4 for chosen in first)
    assert len(set(first)) > 10
    mixed = (*units[5:11], *units[:5], units[11])
    assert [first_units(equal(mixed), 4, seed) for seed in range(20)] == first


def test_the_frame_has_a_row_a_count_and_measure(found):
    curve = gap_curve(found, ranking(), [0, 3], "mean", random_draws=2)
    frame = curve.frame.set_index(["units", "measure"])
    assert len(frame) == 2 * len(MEASURES)
    for column, name in enumerate(MEASURES):
        row = frame.loc[3, name]
        assert row["value"] == curve.chosen[1, column]
        assert row["random_mean"] == pytest.approx(curve.random[:, 1, column].mean())
        assert row["random_low"] <= row["random_mean"] <= row["random_high"]
    assert repr(curve).startswith("by made up\n")


def test_random_steps_are_draws_of_as_many(found):
    units = UnitSet.of(f"{FC}:1,2 {PATCHES}:3")
    steps = [measured(draw) for draw in random_steps(found, units, Zero(), 2)]
    layers = unit_layers(found)
    expected = [measured(found.retrieve(random_units(layers, units, seed=s))) for s in (0, 1)]
    assert steps == expected and steps[0] != steps[1]
    assert list(random_steps(found, UnitSet.of(f"{FC}:0-255"), Zero(), 2)) == []


def test_a_curve_needs_its_null(found):
    scores = Scores("s", "AUCG", np.zeros(1), units=(Unit(FC, 0),))
    with pytest.raises(ValueError, match="random_draws is 0"):
        gap_curve(found, scores, [0], random_draws=0)


def test_a_retrieval_whose_target_has_changed_is_refused() -> None:
    retrieval, layer = small_retrieval(), "transformer.resblocks.1.mlp.c_fc"
    units = f"{layer}:3"
    before = retrieval.retrieve(units)
    weight = retrieval.target.model.get_submodule(layer).weight
    old = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.5)
    for ask in (lambda: retrieval.retrieve(units), lambda: retrieval.retrieve(units, keep=False)):
        with pytest.raises(ValueError, match="weights have changed .* build it again"):
            ask()
    with torch.no_grad():
        weight.copy_(old)
    assert retrieval.retrieve(units).found.prg == before.found.prg
