"""The kept sweep of the scenes' units: it is what a sweep of today gives."""

import numpy as np
import pytest

from memviz.demos import scenes
from memviz.demos.scenes import _effects as scene_effects
from memviz.probes.deja_vu.ablation import beyond_held_out, unit_effects, unit_layers
from memviz.scores import Null, Scores
from memviz.units import Unit


@pytest.fixture(scope="module")
def shipped():
    return scenes.retrieval(seed=0)


def test_three_units_swept_again_agree(shipped):
    kept = shipped.effects
    units = [
        Unit("transformer.resblocks.0.attn", 3),
        Unit("transformer.resblocks.1.mlp.c_fc", 17),
        Unit("visual.transformer.resblocks.0.mlp.c_fc", 200),
    ]
    again = unit_effects(shipped, units, progress=False)
    rows = [kept.units.index(unit) for unit in units]
    assert kept.values[rows] == pytest.approx(again.values, abs=1e-6)
    assert kept.null.values[0, rows] == pytest.approx(again.null.values[0], abs=1e-6)
    half, half_again = kept.half, again.half
    assert half.values[rows] == pytest.approx(half_again.values, abs=1e-6)
    assert half.null.values[0, rows] == pytest.approx(half_again.null.values[0], abs=1e-6)
    assert kept.seed == again.seed
    assert (kept.name, kept.measure, kept.higher) == (again.name, again.measure, again.higher)


def test_every_unit_is_in_the_kept_sweep(shipped):
    assert list(shipped.effects.units) == [
        unit for layer in unit_layers(shipped) for unit in layer.all()
    ]
    assert np.isfinite(shipped.effects.values).all()


def test_other_settings_have_no_kept_sweep(shipped):
    assert scene_effects.known_effects(shipped, seed=1) is None


def test_ranked_by_what_training_pairs_lose_more():
    units = tuple(Unit("fc", index) for index in range(3))
    null = Null("held-out pairs", np.array([[0.3, 0.0, -0.1]]))
    scores = Scores("lost", "AUCG", np.array([0.4, 0.2, 0.0]), units=units, null=null)
    apart = beyond_held_out(scores)
    assert apart.values.tolist() == pytest.approx([0.1, 0.2, 0.1])
    assert apart.order()[0] == 1 and apart.units == units
