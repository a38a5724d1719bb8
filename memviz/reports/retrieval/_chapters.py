"""What is measured of a retrieval, in which order, and what it comes to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from memviz.probes.deja_vu import beyond_held_out, unit_effects, unit_layers
from memviz.probes.deja_vu.ablation import MEASURES, GapCurve, Retrieval
from memviz.scores import Scores
from memviz.study import study_facts
from memviz.units import Layer

from .._asked import about_computing, about_layers, about_model
from .._laps import Laps
from .._live import live_retrieval
from .._page import page
from .._parts import Section, between, facts, figure, plural, points, share, table, words
from .._units import at_most, effect_parts, layer_table, named
from ._halves import Judged, judged
from ._pairs import pairs_section

_LIVE = (
    "Open, sort and search the pairs: what a caption brings back from either model, and the exact "
    "effect of every unit of both towers. Click one of the units with the largest effects to see "
    "all figures and neighbours without it, exactly. Its second line says what needs Python; "
    "nothing is sent anywhere."
)


def retrieval_page(
    retrieval: Retrieval, *, units: int | None, draws: int, seed: int, progress: bool, laps: Laps
) -> Callable[[str], bytes]:
    """Measure everything; what comes back makes the page, given when it was written."""
    layers = unit_layers(retrieval)
    own = copy.copy(retrieval)  # the effects found here are not the user's
    single = sum(layer.units for layer in layers if layer.kind != "heads")
    if units is not None and units >= single:  # before what takes minutes
        raise ValueError(_too_many(units, single))
    with laps.lap("units"):
        if own.effects is None:
            own.effects = unit_effects(own, seed=seed, progress=progress)
        ranking = _ranked(own.effects, layers)
    most = at_most(len(ranking.order())) if units is None else units
    if most >= len(ranking.order()):
        raise ValueError(_too_many(most, len(ranking.order())))
    counts = sorted({0, max(1, most // 16), max(1, most // 4), most})
    with laps.lap("curve"):
        found = judged(own, partial(_ranked, layers=layers), counts, draws, seed, progress=progress)
    with laps.lap("view"):
        view = live_retrieval(own, progress=progress)
    chapters = [
        Section("short", "In short", (points(_in_short(own, found)),)),
        Section("asked", "What was asked", tuple(_asked(own, layers, most))),
        pairs_section(own, seed),
        _units_section(ranking, found),
        _cost_section(found.curve),
    ]
    engine = "exact, one full retrieval per set of units"
    computed = tuple(about_computing(seed, own.study.device, engine))
    last = Section("computed", "How it was computed", computed)
    return partial(
        page, f"memviz report: {own.study.name}", chapters=chapters, view=view,
        about_live=_LIVE, last=last,
    )  # fmt: skip


def _too_many(units: int, ranked: int) -> str:
    return (
        f"units is {units:,}; {ranked:,} units of these models can be ranked, so choose from 1 to "
        f"{ranked - 1:,}."
    )


def _ranked(effects: Scores, layers: list[Layer]) -> Scores:
    """The ranking, without heads: one is a large share of its layer, and would always lead."""
    heads = {layer.name for layer in layers if layer.kind == "heads"}
    ranking = effects if effects.null is None else beyond_held_out(effects)
    values = [
        np.nan if unit.layer in heads else value
        for unit, value in zip(ranking.units or (), ranking.values, strict=True)
    ]
    return replace(ranking, values=np.array(values))


def _asked(retrieval: Retrieval, layers: list[Layer], most: int) -> list[str]:
    hashes, study = study_facts(retrieval.study), retrieval.study
    told = {
        "study": study.name,
        **({"about it": study.summary} if study.summary else {}),
        "model": about_model(study.model),
        "reference": "a model of the same recipe, or a text encoder, trained without the pairs",
        "units that can be ablated": about_layers(layers),
        "pairs": f"{len(retrieval.training):,} for training, {len(retrieval.held_out):,} held out; "
        f"{len(retrieval.public):,} public pictures",
        "asked": "Which pairs did the model memorize, and which units of its two towers hold "
        f"them? Each unit is ablated alone (zero), then up to {most} together.",
        "weights": f"SHA-256 {hashes['weights'][:16]}…",
        "pictures and captions": f"SHA-256 {hashes['data'][:16]}…",
        **({"code": retrieval.origin} if retrieval.origin else {}),
    }
    return [facts(told)]


def _in_short(retrieval: Retrieval, shown: Judged) -> list[str]:
    found = retrieval.clean.found
    null = "" if found.null is None else f"; held-out pairs {found.null.ppg:+.3f}"
    return [
        f"Net of the pairs where it is the other way round, the {found.names[0]} names a caption's "
        f"own objects more precisely than the {found.names[1]} on {share(found.ppg)} of "
        f"{len(found.scored):,} pairs (PPG {found.ppg:+.3f}{null}).",
        *(_told(shown.curve, name, shown.on) for name in ("PPG", "AUCG")),
        _told(shown.curve, "utility"),
    ]


def _told(curve: GapCurve, name: str, on: str = "") -> str:
    column = MEASURES.index(name)
    draws = curve.random[:, -1, column]
    low, high = np.percentile(draws, [2.5, 97.5])
    return (
        f"{name}{on}: {curve.chosen[0, column]:.3f} → {curve.chosen[-1, column]:.3f} with "
        f"{plural(curve.counts[-1], 'unit')} ablated; with as many random ones {draws.mean():.3f} "
        f"({between(low, high, '{:.3f}'.format)})."
    )


def _units_section(ranking: Scores, found: Judged) -> Section:
    units, curve = found.units, found.curve
    method = (
        f"{ranking.name}, in {ranking.measure}, all pairs, each unit ablated alone; attention "
        f"heads are not ranked, each is a large share of its layer. Source: {ranking.source}."
    )
    draws = len(curve.random)
    parts = [
        *effect_parts(ranking, layer_table(ranking, units), method),
        words(found.words),
        words(
            "The control are held-out pairs, which neither model knows: where their gap moves as "
            "well, the model is broken rather than made to forget."
        ),
        words(f"The {plural(len(units), 'unit')}: {named(units)}", "note"),
        figure(
            curve.plot,
            f"Gaps{found.on} and utility against the number of units ablated together",
            "curve",
            curve.frame,
            method=f"Units by {curve.name}, ablated together exactly. Grey: mean and 95% of "
            f"{plural(draws, 'draw')} of as many random units of the same layers.",
        ),
    ]
    return Section("units", "Which layers and units hold them", tuple(parts))


def _cost_section(curve: GapCurve) -> Section:
    whole = curve.frame
    whole = whole[whole["measure"] == "utility"].drop(columns="measure")
    frame = whole[["units", "value", "random_mean"]].copy()
    frame.columns = ["units ablated", "utility", "random"]
    frame["95% of draws"] = [
        between(*ends, "{:.3f}".format)
        for ends in zip(whole["random_low"], whole["random_high"], strict=True)
    ]
    parts = [
        points([_told(curve, "utility")]),
        table(
            frame,
            "Utility, by number of units ablated",
            "cost",
            method="Utility: share of the held-out pictures nearest to a caption of one object "
            "that show that object, mean over the kinds of object.",
            formats=dict.fromkeys(("utility", "random"), "{:.3f}".format),
            whole=whole,
        ),
    ]
    return Section("cost", "What it costs", tuple(parts))
