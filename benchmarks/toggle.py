"""One click: a unit more or less in the set that is ablated, and every example's new output.

    python -m benchmarks toggle --model digits

A session keeps the ablated pass and restarts at the first layer that differs; a hook runs the whole
model. Units of each layer are toggled one after the other on a set of one unit of every layer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

import memviz as mv
from benchmarks.hook import best_batch, set_logits
from benchmarks.models import SUBJECTS, Subject, digits
from benchmarks.report import about, parser, show, significant
from benchmarks.samples import Agreement, spread
from benchmarks.timing import Timing, one_thread
from memviz.engine.interventions import Zero

MODELS: dict[str, Callable[[], Subject]] = {"digits": digits, "resnet9": SUBJECTS["resnet9"]}
LIMIT_MS = 100


def measure(model: str, *, examples: int | None = None, clicks: int = 6) -> dict[str, Any]:
    """Time clicks in each layer, by memviz and by hooks at their best batch.

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
        replay, agreement = mv.Replay(study), Agreement()
        times: dict[str, tuple[Timing, Timing]] = {}
        for layer, units in chosen.units().items():
            sampled = [mv.Unit(layer, index) for index in spread(units, clicks)]
            times[layer] = _clicks(chosen, replay, batch, sampled, agreement)
        rows = {layer: _row(*both, len(study)) for layer, both in times.items()}
        return {
            "benchmark": "toggle",
            "model": model,
            "examples": len(study),
            "hook_batch": batch,
            "ratio_hook": significant(
                sum(theirs.median for _, theirs in times.values())
                / sum(ours.median for ours, _ in times.values())
            ),
            "slowest_ms": max(row["ms"] for row in rows.values()),
            **agreement.facts(),
            "layers": rows,
            "about": about(),
        }


def _clicks(
    chosen: Subject,
    replay: mv.Replay,
    batch: int,
    sampled: Sequence[mv.Unit],
    agreement: Agreement,
) -> tuple[Timing, Timing]:
    ours, theirs = Timing(), Timing()
    active = mv.UnitSet([mv.Unit(layer, 0) for layer in chosen.sites])
    replay.outputs(active, keep=True)  # the set that stands before the first click
    inputs = chosen.inputs[: len(replay.examples)]

    def hooked() -> list[Tensor]:
        return [set_logits(chosen, active, part) for part in inputs.split(batch)]

    def kept() -> Tensor:
        return replay.outputs(active, Zero(), keep=True)

    for unit in sampled:
        active = active ^ mv.UnitSet([unit])
        outputs = ours.run(kept)
        theirs.run(hooked)
    for step in range(replay.steps):
        positions = replay.chunk(step)
        agreement.add(outputs[positions], set_logits(chosen, active, inputs[positions]))
    return ours, theirs


def _row(ours: Timing, theirs: Timing, examples: int) -> dict[str, Any]:
    each = ours.median * 1000 / examples
    return {
        "ms": significant(ours.median * 1000),
        "wall_ms": significant(ours.median_wall * 1000),
        "hook_ms": significant(theirs.median * 1000),
        "ratio_hook": significant(
            statistics.median(b / a for a, b in zip(ours.cpu, theirs.cpu, strict=True))
        ),
        f"examples_in_{LIMIT_MS}_ms": int(significant(LIMIT_MS / each, 2)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("toggle", __doc__)
    arguments.add_argument("--model", choices=list(MODELS), default="digits")
    arguments.add_argument("--examples", type=int)
    arguments.add_argument("--clicks", type=int, default=6, help="in each layer")
    chosen = arguments.parse_args(argv)
    result = measure(chosen.model, examples=chosen.examples, clicks=chosen.clicks)
    show(result, as_json=chosen.json)


if __name__ == "__main__":
    main()
