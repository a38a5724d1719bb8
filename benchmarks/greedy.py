"""One exact step of a greedy search: all units of ResNet-9 on one example.

    python -m benchmarks greedy

Nothing is sampled here: each method runs all 1,344 units, one at a time, and names the one whose
ablation costs the example the most margin. The hook loop runs one unit per pass; Captum puts 32
units in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum.attr import LayerFeatureAblation
from torch import Tensor

import memviz as mv
from benchmarks.engines import ENGINES, evaluate, prepare
from benchmarks.hook import hook_loop
from benchmarks.models import SUBJECTS, Subject, subject
from benchmarks.report import about, parser, show, significant
from benchmarks.timing import Timing, in_turn, one_thread
from memviz.engine.record import Zero
from memviz.engine.sweep import Effects, Engine, new_effects

AT_ONCE = 32


def measure(
    model: str = "resnet9", *, repeats: int = 3, sample: int | None = None
) -> dict[str, Any]:
    """Time the step with each method, and compare what the units do to the example.

    Parameters
    ----------
    model : str
    repeats : int
    sample : int, optional
        Only this many units of each layer; all unless given.
    """
    with one_thread():
        chosen = subject(model)
        study = _one_example(chosen)
        counts = {name: min(n, sample or n) for name, n in chosen.units().items()}
        units = [mv.Unit(name, index) for name, n in counts.items() for index in range(n)]
        hooked = new_effects(mv.Replay(study), units, Zero())
        ways: dict[str, Callable[[], Any]] = {
            "hook": lambda: hook_loop(chosen, study, units, 1, hooked),
            "captum": lambda: [captum_step(chosen, study, layer) for layer in counts],
        }
        for engine in ENGINES:
            ways[engine] = lambda engine=engine: evaluate(engine, prepare(study), units)
        timings = in_turn(ways, repeats, warm=False)
        result: dict[str, Any] = {
            "benchmark": "greedy",
            "model": model,
            "units": len(units),
            "examples": 1,
            "repeats": repeats,
            "hook_batch": 1,
            "captum_units_a_pass": AT_ONCE,
        }
        for way, timing in timings.items():
            result[f"{way}_seconds"] = significant(timing.median)
            result[f"{way}_spread"] = significant(timing.spread, 2)
        for engine in ENGINES:
            result |= _facts(engine, study, units, hooked, timings)
        return {**result, "about": about()}


def _one_example(chosen: Subject) -> mv.Study:
    """The first example, labelled as the model labels it: a margin that can fall."""
    with torch.no_grad():
        label = chosen.model(chosen.inputs[:1]).argmax(1)
    return mv.Study(chosen.model, chosen.inputs[:1], label, {"example": range(1)})


def captum_step(chosen: Subject, study: mv.Study, layer: str) -> Tensor:
    """Drop of the label's logit for each unit of a layer, 32 units in a batch."""
    ablation = LayerFeatureAblation(chosen.model, chosen.module(layer))
    units = chosen.units()[layer]
    mask = torch.arange(units).view(1, -1, *([1, 1] if chosen.axis == 1 else []))
    found: Tensor = ablation.attribute(
        study.batch(torch.arange(1)),
        target=int(study.labels[0]),
        layer_mask=mask,
        perturbations_per_eval=AT_ONCE,
    )
    return found.flatten(2)[0, :, 0] if chosen.axis == 1 else found.flatten(0, -2)[0]


def _facts(
    engine: Engine,
    study: mv.Study,
    units: Sequence[mv.Unit],
    hooked: Effects,
    timings: dict[str, Timing],
) -> dict[str, Any]:
    """Ratios and agreement; the error is of the margin, as a share of the largest logit."""
    replay = prepare(study)
    effects = evaluate(engine, replay, units)
    error = (effects.margin_change - hooked.margin_change).abs().max() / replay.clean.abs().max()
    best = [units[int(found.margin_change[:, 0].argmin())] for found in (effects, hooked)]
    facts = {
        "ratio_hook": significant(timings["hook"].median / timings[engine].median),
        "ratio_captum": significant(timings["captum"].median / timings[engine].median),
        "path": effects.engine,
        "max_error": significant(float(error), 2),
        "equal_predictions": torch.equal(effects.correct, hooked.correct),
        "best_unit": str(best[0]),
        "same_best_unit": best[0] == best[1],
    }
    before = "" if engine == ENGINES[0] else f"{engine}_"
    return {before + key: value for key, value in facts.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("greedy", __doc__)
    arguments.add_argument("--model", choices=list(SUBJECTS), default="resnet9")
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    show(measure(chosen.model, repeats=chosen.repeats), as_json=chosen.json)


if __name__ == "__main__":
    main()
