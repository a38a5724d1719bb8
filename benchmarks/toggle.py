"""One click: one unit more or less in the ablated set, and every example's new output.

    python -m benchmarks toggle --model digits

Replay keeps the ablated pass and restarts at the first layer that differs; ``Toggle`` takes the
graph instead where that is less work, and settles afterwards, as a session does when nobody waits;
a hook runs the whole model. Units of each layer are toggled one after the other: first in a set
that holds units of this layer alone, then in one that holds a unit of every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

import memviz as mv
from benchmarks.hook import best_batch, set_logits
from benchmarks.models import SUBJECTS, Subject, digits
from benchmarks.report import about, parser, show, significant
from benchmarks.samples import Agreement, spread
from benchmarks.timing import Timing, one_thread
from memviz.engine.record import Zero
from memviz.engine.sets import Toggle

Answer = Callable[[mv.UnitSet], Tensor]

MODELS: dict[str, Callable[[], Subject]] = {"digits": digits, "resnet9": SUBJECTS["resnet9"]}
LIMIT_MS = 100


def measure(model: str, *, examples: int | None = None, clicks: int = 4) -> dict[str, Any]:
    """Time clicks in each layer, with memviz and with hooks at their best batch size.

    Parameters
    ----------
    model : str
        A name of ``MODELS``.
    examples : int, optional
        The model's own number unless given.
    clicks : int
        In each layer.
    """
    with one_thread():
        chosen = MODELS[model]()
        batch, _ = best_batch(chosen)
        study = chosen.study(examples or chosen.examples)
        toggle, replay = Toggle(mv.Replay(study)), mv.Replay(study)
        ways: dict[str, Answer] = {
            "auto": lambda units: toggle.outputs(units, Zero()),
            "replay": lambda units: replay.outputs(units, Zero(), keep=True),
        }
        agreements = {way: Agreement() for way in ways}
        everywhere = mv.UnitSet([mv.Unit(layer, 0) for layer in chosen.sites])
        found: dict[str, dict[str, Any]] = {"one_layer": {}, "every_layer": {}}
        for layer, units in chosen.units().items():
            sampled = [mv.Unit(layer, index) for index in spread(units, clicks)]
            for rows, start in zip(found.values(), (mv.UnitSet(), everywhere), strict=True):
                timings, outputs, active = _clicks(chosen, ways, toggle, batch, start, sampled)
                rows[layer] = _row(timings, len(study))
                for way, agreement in agreements.items():
                    _compare(agreement, chosen, replay, outputs[way], active)
        facts = {way: agreement.facts() for way, agreement in agreements.items()}
        return {
            "benchmark": "toggle",
            "model": model,
            "examples": len(study),
            "hook_batch": batch,
            **{f"ratio_hook_{name}": _ratio(rows, "ms") for name, rows in found.items()},
            **facts["auto"],
            **{f"replay_ratio_hook_{k}": _ratio(rows, "replay_ms") for k, rows in found.items()},
            **{f"replay_{key}": value for key, value in facts["replay"].items()},
            **found,
            "about": about(),
        }


def _clicks(
    chosen: Subject,
    ways: dict[str, Answer],
    toggle: Toggle,
    batch: int,
    active: mv.UnitSet,
    sampled: Sequence[mv.Unit],
) -> tuple[dict[str, Timing], dict[str, Tensor], mv.UnitSet]:
    """Times of a layer's clicks, and the outputs and the set after the last one."""
    parts = chosen.inputs[: len(toggle.replay.study)].split(batch)
    every: dict[str, Answer] = {
        "hook": lambda units: torch.cat([set_logits(chosen, units, part) for part in parts]),
        **ways,
    }
    for answer in ways.values():
        answer(active)  # the set that stands before the first click
    _settle(toggle, active)
    timings, outputs = {way: Timing() for way in every}, {}
    for unit in sampled:
        active = active ^ mv.UnitSet([unit])
        for way, answer in every.items():
            outputs[way] = timings[way].run(partial(answer, active))
        _settle(toggle, active)
    return timings, outputs, active


def _settle(toggle: Toggle, active: mv.UnitSet) -> None:
    if not toggle.settled:
        for _ in toggle.settle(active, Zero()):
            pass


def _compare(
    agreement: Agreement, chosen: Subject, replay: mv.Replay, outputs: Tensor, active: mv.UnitSet
) -> None:
    for step in range(replay.steps):
        positions = replay.chunk(step)
        agreement.add(outputs[positions], set_logits(chosen, active, chosen.inputs[positions]))


def _ratio(rows: dict[str, Any], way: str) -> float:
    """A click in every layer with the hook, over the same with one of memviz's methods."""
    return significant(
        sum(r["hook_ms"] for r in rows.values()) / sum(r[way] for r in rows.values())
    )


def _row(timings: dict[str, Timing], examples: int) -> dict[str, Any]:
    ours = timings["auto"]
    return {
        "ms": significant(ours.median * 1000),
        "wall_ms": significant(ours.median_wall * 1000),
        "replay_ms": significant(timings["replay"].median * 1000),
        "hook_ms": significant(timings["hook"].median * 1000),
        "ratio_hook": significant(timings["hook"].median / ours.median),
        "replay_ratio_hook": significant(timings["hook"].median / timings["replay"].median),
        f"examples_in_{LIMIT_MS}_ms": int(significant(LIMIT_MS / 1000 / ours.median * examples, 2)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("toggle", __doc__)
    arguments.add_argument("--model", choices=list(MODELS), default="digits")
    arguments.add_argument("--examples", type=int)
    arguments.add_argument("--clicks", type=int, default=4, help="in each layer")
    chosen = arguments.parse_args(argv)
    result = measure(chosen.model, examples=chosen.examples, clicks=chosen.clicks)
    show(result, as_json=chosen.json)


if __name__ == "__main__":
    main()
