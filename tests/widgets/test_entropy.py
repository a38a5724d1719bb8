"""The switch of the entropy's edges: buttons, figure, the sentence, bad input."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import memviz as mv
from memviz.probes.information import Entropy
from memviz.widgets.entropy import entropy_view

EVIL = "<img src=x onerror='pwned=1'>"


def measured(edges: Any, values: list[float]) -> Entropy:
    """Entropies of units of one layer; the last unit is constant and counts for nothing."""
    values = [*values, 0.0]
    units = tuple(mv.Unit("fc", i) for i in range(len(values)))
    reached = np.stack([np.zeros(len(values)), np.ones(len(values))])
    reached[1, -1] = 0
    layer = mv.Layer("fc", "linear", len(values), "linear")
    found = {"layers": (layer,), "bins": 8, "edges": edges}
    ranges = np.stack([np.zeros(len(values)), np.full(len(values), 2.0)])
    given = {"units": units, "ranges": ranges, "reached": reached, **found}
    return Entropy("entropy", "nats", np.array(values), **given)


@pytest.fixture
def found() -> dict[str, dict[Any, list[Entropy]]]:
    """Entropy falls with the noise under global edges and rises under those of each unit."""
    of_edges = {"global": ([1.0, 2.0], [0.5, 1.5]), "layer": ([1.0], [1.002]), "unit": ([1], [2])}
    return {
        edges: {0.0: [measured(edges, low)], 0.8: [measured(edges, high)]}
        for edges, (low, high) in of_edges.items()
    }


def test_the_switch_says_what_changed(found: Any) -> None:
    view = entropy_view(found, "share of wrong labels")
    assert view.edges.options == ("global", "layer", "unit")
    assert view.sentence == (
        "Edges global: from share of wrong labels 0.0 to 0.8 the mean entropy per unit falls by "
        "0.50 (1.50 to 1.00 nats)."
    )
    view.edges.value = "unit"
    assert view.sentence == (
        "Edges global → unit: from share of wrong labels 0.0 to 0.8 the mean entropy per unit "
        "rises by 1.00 (1.00 to 2.00 nats); with global edges it fell by 0.50."
    )
    view.edges.value = "layer"
    assert "stays level" in view.sentence and "with unit edges it rose by 1.00" in view.sentence


def test_each_choice_has_a_figure_of_its_own(found: Any) -> None:
    view = entropy_view(found)
    pictures = []
    for edges in ("global", "unit", "global"):
        view.edges.value = edges
        html = view.children[1].value
        assert view.sentence in html.replace("&#x27;", "'")
        pictures.append(re.search(r"base64,([^\"]+)", html)[1])
    assert pictures[0] == pictures[2] != pictures[1]
    data = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and pictures[2] in data["text/html"]
    assert data["text/plain"].startswith("memviz entropy. Edges unit → global:")


def test_one_model_has_no_first_and_last() -> None:
    alone = {edges: {"mine": [measured(edges, [1.0])]} for edges in ("global", "unit")}
    view = entropy_view(alone)
    assert view.sentence == "Edges global: mean entropy per unit 1.00 nats."
    view.edges.value = "unit"
    assert view.sentence == "Edges global → unit: mean entropy per unit 1.00 → 1.00 nats."


def test_names_are_text(found: Any) -> None:
    renamed = {edges: {EVIL: models[0.0], "b": models[0.8]} for edges, models in found.items()}
    view = entropy_view(renamed, EVIL)
    assert EVIL not in view.children[1].value and "&lt;img src=x" in view.children[1].value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: {}, "no entropies were given; give them for at least one choice"),
        (lambda found: {**found, "unit": {0.0: found["unit"][0.0]}}, "'unit' has other models"),
        (lambda found: {"layer": found["unit"]}, "with edges 'unit' for 'layer'; compute it"),
        (
            lambda found: {"unit": {2: [replace(found["unit"][0.0][0], bins=9)], **found["unit"]}},
            "got an Entropy with 8 bins, .* beside one with 9 bins, .* compare equal bins",
        ),
        (
            lambda found: {"unit": {**found["unit"], 1: [measured("unit", [])]}},
            "all units of an Entropy are constant, so it has no mean to show",
        ),
    ],
)
def test_bad_input_gets_one_sentence(found: Any, change: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        entropy_view(change(found))
