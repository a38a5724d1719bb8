"""Every unit of a model, one at a time: memviz beside a plain hook and Captum.

    python -m benchmarks sweep --model resnet9

A whole sweep by hooks takes hours, so some units of each layer, spread evenly over it, are
measured, and the layers are added up as if all their units had been run. Recording is charged to
memviz once, as in a whole sweep. ``--whole`` runs one from end to end.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import memviz as mv
from benchmarks import ceilings
from benchmarks.engines import ENGINES, answers, evaluate, evaluate_timed, logits, prepare
from benchmarks.hook import BATCHES, best_batch, hook_logits, hook_loop
from benchmarks.models import SUBJECTS, Subject, subject
from benchmarks.peers import captum_part, hook_drops, others
from benchmarks.report import about, parser, show, significant
from benchmarks.samples import Agreement, LayerTimes, spread
from benchmarks.timing import Timing, one_thread, peak_memory
from memviz.engine.record import Zero
from memviz.engine.sweep import Engine, new_effects


def measure(
    model: str,
    *,
    examples: int | None = None,
    sample: int | None = None,
    repeats: int = 3,
    batches: Sequence[int] = BATCHES,
    whole: bool = False,
) -> dict[str, Any]:
    """Time a sweep of one model with every method, and compare what they find.

    Parameters
    ----------
    model : str
        A name of ``benchmarks.models.SUBJECTS``.
    examples, sample : int, optional
        Examples, and units per layer; the model's own numbers unless given.
    repeats : int
        Rounds in which all methods take turns.
    batches : sequence of int
        Batch sizes the hook loop may choose from.
    whole : bool
        Also run one whole sweep with each engine.
    """
    with one_thread():
        chosen = subject(model)
        batch, tried = best_batch(chosen, batches)
        # The hook loop must be able to fill one batch of its best size.
        study = chosen.study(max(examples or chosen.examples, batch))
        setup, layers = _rounds(chosen, study, batch, sample or chosen.sample, repeats)
        return {
            "benchmark": "sweep",
            "model": model,
            "units": sum(layer.units for layer in layers.values()),
            "examples": len(study),
            "sampled_units": sum(len(layer.sampled) for layer in layers.values()),
            "repeats": repeats,
            "hook_batch": batch,
            "hook_ms_per_example_by_batch": {k: significant(v) for k, v in tried.items()},
            **_results(study, setup, layers, _agreement(chosen, study, layers)),
            **_captum(chosen, study, layers, batch),
            "others": others(chosen, batch),
            "layers": {name: _row(layer) for name, layer in layers.items()},
            **({"whole": _whole(chosen, study)} if whole else {}),
            **_work(chosen, study, layers),
            "peak_memory_mb": peak_memory() // 2**20,
            "ceilings": ceilings.measure(),
            "about": about(),
        }


def _rounds(
    chosen: Subject, study: mv.Study, batch: int, sample: int, repeats: int
) -> tuple[Timing, dict[str, LayerTimes]]:
    """The times of recording, and of every method on some units of each layer."""
    setup = Timing()
    for _ in range(repeats):
        replay = setup.run(lambda: prepare(study))
    layers = {}
    for name, units in chosen.units().items():
        layer = LayerTimes(units, [mv.Unit(name, index) for index in spread(units, sample)])
        layers[name] = layer
        for k in range(repeats):
            _round(chosen, replay, batch, layer, captum=k == 0)
    return setup, layers


def _round(
    chosen: Subject, replay: mv.Replay, batch: int, layer: LayerTimes, *, captum: bool
) -> None:
    """Every method once on a layer's units; Captum costs what the hook costs, so once is enough."""
    study, sampled = replay.study, layer.sampled
    effects = new_effects(replay, sampled, Zero())  # the hook loop judges its logits as well
    layer.times["hook"].run(lambda: hook_loop(chosen, study, sampled, batch, effects))
    if captum:
        run = layer.times["captum"].run
        layer.captum = run(lambda: captum_part(chosen, study, sampled, batch))
    for engine in ENGINES:
        evaluate_timed(engine, replay, sampled, layer.first[engine], layer.times[engine])


def _totals(
    way: str, setup: Timing, layers: dict[str, LayerTimes], clock: str = "cpu"
) -> list[float]:
    """Seconds of a whole sweep, one figure per round; an engine pays for the recording as well."""
    parts = [layer.seconds(way, clock) for layer in layers.values()]
    rounds = [sum(seconds) for seconds in zip(*parts, strict=True)]
    if way in ENGINES:
        rounds = [a + b for a, b in zip(rounds, getattr(setup, clock), strict=True)]
    return rounds


def _results(
    study: mv.Study, setup: Timing, layers: dict[str, LayerTimes], agreed: dict[Engine, Any]
) -> dict[str, Any]:
    """Ratios and agreement of each engine; keys of all but the first begin with its name."""
    hook, (captum,) = (_totals(way, setup, layers) for way in ("hook", "captum"))
    found: dict[str, Any] = {
        "hook_seconds": significant(statistics.median(hook)),
        "hook_wall_seconds": significant(statistics.median(_totals("hook", setup, layers, "wall"))),
        "captum_seconds": significant(captum),
        "setup_seconds": significant(setup.median),
    }
    for engine in ENGINES:
        mine = _totals(engine, setup, layers)
        ratios = [theirs / ours for theirs, ours in zip(hook, mine, strict=True)]
        seconds = statistics.median(mine)
        count = len(study) * sum(layer.units for layer in layers.values())
        facts = {
            "ratio_hook": significant(statistics.median(ratios)),
            "ratio_hook_range": [significant(min(ratios)), significant(max(ratios))],
            "ratio_captum": significant(captum / seconds),
            "seconds": significant(seconds),
            "wall_seconds": significant(statistics.median(_totals(engine, setup, layers, "wall"))),
            "unit_examples_per_second": significant(count / seconds),
            **agreed[engine],
        }
        before = "" if engine == ENGINES[0] else f"{engine}_"
        found |= {before + key: value for key, value in facts.items()}
    return found


def _agreement(
    chosen: Subject, study: mv.Study, layers: dict[str, LayerTimes]
) -> dict[Engine, dict[str, Any]]:
    """Every engine against the hook, on all sampled units and all chunks."""
    replay = prepare(study)
    asked = {engine: (answers(engine, replay), Agreement()) for engine in ENGINES}
    for unit in (unit for layer in layers.values() for unit in layer.sampled):
        for step in range(replay.steps):
            theirs = hook_logits(chosen, unit, chosen.inputs[replay.chunk(step)])
            for engine, agreement in asked.values():
                agreement.add(logits(engine, step, unit), theirs)
    return {
        name: {"path": engine.engine, **agreement.facts()}
        for name, (engine, agreement) in asked.items()
    }


def _captum(
    chosen: Subject, study: mv.Study, layers: dict[str, LayerTimes], batch: int
) -> dict[str, Any]:
    """Captum says how much the label's logit falls, and nothing about the other logits."""
    errors = {}
    for name, layer in layers.items():
        assert layer.captum is not None
        drops, largest = hook_drops(chosen, study, layer.sampled, batch)
        errors[name] = float((layer.captum.drops - drops).abs().max()) / largest
    return {
        "captum_max_error": significant(max(errors.values()), 2),
        "captum_differs_in": [name for name, error in errors.items() if error > 1e-3],
    }


def _row(layer: LayerTimes) -> dict[str, Any]:
    ways = {way: statistics.median(layer.seconds(way)) for way in layer.times}
    ratios = {f"{e}_ratio_hook": significant(ways["hook"] / ways[e]) for e in ENGINES}
    seconds = {f"{way}_seconds": significant(value) for way, value in ways.items()}
    return {"units": layer.units, "sampled": len(layer.sampled), **seconds, **ratios}


def _whole(chosen: Subject, study: mv.Study) -> dict[str, Any]:
    """One sweep of every unit from end to end, recording included."""
    found: dict[str, Any] = {}
    units = [mv.Unit(name, i) for name, count in chosen.units().items() for i in range(count)]
    for engine in ENGINES:
        timing = Timing()
        timing.run(lambda engine=engine: evaluate(engine, prepare(study), units))
        found[f"{engine}_seconds"] = significant(timing.median)
        found[f"{engine}_wall_seconds"] = significant(timing.median_wall)
    return found


def _work(chosen: Subject, study: mv.Study, layers: dict[str, LayerTimes]) -> dict[str, Any]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        chosen.model(chosen.inputs[:1])
    work = counter.get_total_flops()
    hook = statistics.median(_totals("hook", Timing(), layers))
    runs = len(study) * sum(layer.units for layer in layers.values())
    return {
        "gflop_per_example": significant(work / 1e9),
        "hook_gflop_per_second": significant(work * runs / hook / 1e9),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("sweep", __doc__)
    arguments.add_argument("--model", choices=list(SUBJECTS), default="resnet9")
    arguments.add_argument("--examples", type=int)
    arguments.add_argument("--sample", type=int, help="units measured in each layer")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--whole", action="store_true", help="one whole sweep as well")
    chosen = arguments.parse_args(argv)
    result = measure(
        chosen.model,
        examples=chosen.examples,
        sample=chosen.sample,
        repeats=chosen.repeats,
        whole=chosen.whole,
    )
    show(result, as_json=chosen.json)


if __name__ == "__main__":
    main()
