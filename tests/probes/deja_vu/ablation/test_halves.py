"""Units chosen on one half of the pairs and judged on the other, against the test done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from memviz.engine.record import Zero
from memviz.engine.sets import random_units
from memviz.probes.deja_vu import (
    beyond_held_out,
    gap_curve,
    pair_halves,
    two_model_test,
    unit_effects,
)
from memviz.probes.deja_vu.ablation import (
    PairHalf,
    Retrieval,
    first_units,
    measured,
    unit_layers,
)
from memviz.units import Unit, UnitSet
from tests.support.retrievals import untrained_clip, untrained_retrieval

FC = "transformer.resblocks.0.mlp.c_fc"
UNITS = [Unit(FC, index) for index in range(6)] + [Unit("visual.conv1", 4)]


@pytest.fixture(scope="module")
def found() -> Retrieval:
    return untrained_retrieval()


def by_hand(found: Retrieval, pairs: PairHalf, units: UnitSet) -> list[float]:
    """PPG, PRG, AUCG and those of held-out pairs, tested with these pairs and no others."""
    ours, theirs = found.embedded(units, Zero()), found.reference
    assert ours.held_out is not None and theirs.held_out is not None
    sides = [
        replace(
            side, captions=side.captions[pairs.training], held_out=side.held_out[pairs.held_out]
        )
        for side in (ours, theirs)
    ]
    test = two_model_test(
        *sides, found.training.objects[pairs.training], found.public.objects,
        held_out_objects=found.held_out.objects[pairs.held_out], k=4, top=3, progress=False,
    )  # fmt: skip
    assert test.null is not None
    return [test.ppg, test.prg, test.aucg, test.null.ppg, test.null.prg, test.null.aucg]


@pytest.mark.parametrize("seed", [0, 3])
def test_effects_on_a_half_are_those_of_its_pairs_alone(found: Retrieval, seed: int) -> None:
    effects = unit_effects(found, UNITS, seed=seed, progress=False)
    assert effects.half is not None and effects.half.null is not None and effects.seed == seed
    first = pair_halves(found, seed)[0]
    before = by_hand(found, first, UnitSet())
    for row, unit in enumerate(UNITS):
        after = by_hand(found, first, UnitSet([unit]))
        assert effects.half.values[row] == pytest.approx(before[2] - after[2])
        assert effects.half.null.values[0, row] == pytest.approx(before[5] - after[5])
    assert not np.allclose(effects.half.values, effects.values)


def test_a_curve_of_some_pairs_is_theirs_alone(found: Retrieval) -> None:
    effects = unit_effects(found, UNITS, progress=False)
    assert effects.half is not None
    other = pair_halves(found)[1]
    curve = gap_curve(found, effects.half, [0, 2], pairs=other, random_draws=1)
    units = first_units(effects.half, 2, seed=0)
    for row, off in enumerate((UnitSet(), units)):
        assert curve.chosen[row, :6].tolist() == pytest.approx(by_hand(found, other, off))
        assert curve.chosen[row, 6] == found.retrieve(off).utility


def test_all_pairs_are_the_whole_test_and_halves_add_up(found: Retrieval) -> None:
    after, halves = found.retrieve(f"{FC}:0-20"), pair_halves(found)
    everything = PairHalf(*(one | other for one, other in zip(*halves, strict=True)))
    assert measured(after, everything) == measured(after)
    parts = [measured(after, half) for half in halves]
    sizes = [float(half.training[after.found.scored].sum()) for half in halves]
    assert np.average([part[2] for part in parts], weights=sizes) == pytest.approx(after.found.aucg)


def test_a_pairs_half_depends_on_no_other_pair() -> None:
    few, more = (pair_halves(untrained_retrieval(pairs), 5)[0] for pairs in (9, 14))
    assert torch.equal(few.training, more.training[:9])
    assert torch.equal(few.held_out, more.held_out[: len(few.held_out)])
    assert not torch.equal(few.training, few.held_out[:9])
    halves = [pair_halves(untrained_retrieval(14), seed)[0].training.tolist() for seed in range(9)]
    assert len({tuple(half) for half in halves}) > 5


def test_pairs_in_another_order_give_the_same_gaps(found: Retrieval) -> None:
    order = torch.randperm(len(found.training), generator=torch.Generator().manual_seed(1))
    moved = Retrieval(
        found.target, untrained_clip(2), found.training.subset(order), found.public,
        found.held_out, k=4, top=3,
    )  # fmt: skip
    first = pair_halves(found)[0]
    there = PairHalf(first.training[order], first.held_out)
    for units in ("", f"{FC}:0-20"):
        one, other = measured(found.retrieve(units), first), measured(moved.retrieve(units), there)
        assert one[:6] == pytest.approx(other[:6])


def test_what_is_beyond_held_out_pairs_is_so_on_the_half(found: Retrieval) -> None:
    effects = unit_effects(found, UNITS, progress=False)
    assert effects.half is not None and effects.half.null is not None
    beyond = beyond_held_out(effects)
    expected = effects.half.values - effects.half.null.mean
    assert np.array_equal(beyond.half.values, expected)  # type: ignore[attr-defined]


def test_too_few_pairs_have_no_halves() -> None:
    effects = unit_effects(untrained_retrieval(1), UNITS[:1], progress=False)
    assert effects.half is None and len(effects) == 1


def test_random_units_are_judged_on_the_same_pairs(found: Retrieval) -> None:
    effects = unit_effects(found, UNITS, progress=False)
    other = pair_halves(found)[1]
    curve = gap_curve(found, effects, [2], pairs=other, random_draws=2, seed=5, progress=False)
    for draw in range(2):
        units = random_units(unit_layers(found), first_units(effects, 2, 5), 5 + draw)
        assert curve.random[draw, 0, :6].tolist() == pytest.approx(by_hand(found, other, units))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pairs: PairHalf(pairs.training[:-1], pairs.held_out), "for the training pairs"),
        (lambda pairs: PairHalf(pairs.training, pairs.held_out[1:]), "for the held-out pairs"),
        (lambda pairs: PairHalf(pairs.training.nonzero()[:, 0], pairs.held_out), "give bool"),
        (lambda pairs: PairHalf(pairs.training & False, pairs.held_out), "no pair whose gap is"),
    ],
)
def test_pairs_of_another_kind_are_refused(found: Retrieval, change, words: str) -> None:
    effects = unit_effects(found, UNITS[:2], progress=False)
    with pytest.raises(ValueError, match=words):
        gap_curve(found, effects, [1], pairs=change(pair_halves(found)[0]), progress=False)
