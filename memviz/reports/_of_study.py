"""The page of a study: what is measured, in which order, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from memviz.checks import coded, quoted
from memviz.engine.record import Replay
from memviz.probes.examples import example_table, scores_of_model
from memviz.scores import Scores
from memviz.study import Study, default_groups

from ._asked import about_computing, about_study
from ._examples import examples_section
from ._halves import Halves, halves
from ._laps import Laps
from ._live import live_study
from ._page import page
from ._parts import Section, plural, points
from ._units import (
    at_most,
    cost_section,
    counts_to,
    effect_words,
    layer_table,
    units_section,
    verdict,
)

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 6  # layers in a sentence
_LIVE = (
    "Click a unit to switch it off: the figures of single units are exact, from a sweep over all "
    "of them. Several units together are estimates, marked ≈, with their measured error beside "
    "them. Search, filters, undo and the keyboard work; nothing is sent anywhere."
)


def study_page(
    study: Study,
    *,
    units: int | None,
    scores: Sequence[Scores] | None,
    draws: int,
    seed: int,
    progress: bool,
    laps: Laps,
) -> Callable[[str], bytes]:
    """Measure everything; what comes back makes the page, given when it was written."""
    group, against = default_groups(study, None, None)
    if not against:
        raise ValueError(
            coded(
                "E25",
                f"this study has only the group {quoted(group)}; a report compares the first "
                "group, the memorized examples, with the second: add one, or take groups from "
                "scores with study.suspects(scores, k=...).",
            )
        )
    # Those of every path that the examples take, as the sweep will have them.
    shown = [layer for layer in Replay(study, memory=0).layers if not layer.is_output]
    known = [unit for layer in shown for unit in layer.all()]
    most = at_most(len(known)) if units is None else units
    if known and most >= len(known):  # without any, the view says what is missing
        raise ValueError(
            f"units is {most:,}; this model has {len(known):,}, so choose from 1 to "
            f"{len(known) - 1:,}."
        )
    if scores:
        example_table(study, scores)  # refuses what is no score of its examples
    with laps.lap("scores"):
        if scores is None:
            scores = scores_of_model(study, progress=progress)
    with laps.lap("sweep"):
        swept = live_study(study, progress=progress)
    with laps.lap("curve"):
        found = halves(study, swept.effects, counts_to(most), draws, seed, progress=progress)
    ranking = swept.effects.scores()
    table = layer_table(ranking, found.units)
    asked = {
        "asked": f"Which units hold {group} rather than {against}? Each unit is ablated alone "
        f"({swept.effects.how}), then up to {most} together."
    }
    chapters = [
        Section("short", "In short", (points(_in_short(study, found, table)),)),
        Section("asked", "What was asked", tuple(about_study(study, shown, asked))),
        examples_section(study, scores, seed),
        units_section(ranking, table, found),
        cost_section(found, group, against),
    ]
    engine = swept.effects.engine + (f": {swept.effects.why}" if swept.effects.why else "")
    computed = tuple(about_computing(seed, study.device, engine))
    last = Section("computed", "How it was computed", computed)
    return partial(
        page, f"memviz report: {study.name}", chapters=chapters, view=swept.view,
        about_live=_LIVE, last=last,
    )  # fmt: skip


def _in_short(study: Study, found: Halves, layers: pd.DataFrame) -> list[str]:
    """The findings, a sentence each."""
    shown = found.shown
    group = shown.groups[0]
    half = " (the half that had no part in the choice)" if found.own else ""
    most = layers.sort_values("ablated together", ascending=False, kind="stable")
    of = [
        f"{row['ablated together']} in {row['layer']}"
        for _, row in most.head(_NAMED).iterrows()
        if row["ablated together"]
    ]
    left = len(found.units) - int(most["ablated together"].head(_NAMED).sum())
    sentences = [
        f"{effect_words(shown, group).removesuffix('.')}{half}.",
        *verdict(shown, group),
        *(effect_words(shown, name) for name in shown.groups[1:]),
        f"The {plural(len(found.units), 'unit')}: {', '.join(of)}"
        + (f", {left} in other layers." if left else "."),
    ]
    if study.suspicion is not None:
        sentences.append("The groups were taken from a score: they are suspects, not findings.")
    return sentences
