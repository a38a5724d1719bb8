"""The estimate of every unit at once: what it costs, and how far it can be trusted.

    python -m benchmarks estimate

Cost on ResNet-9, beside one plain forward and backward pass of the same examples and beside
Captum's ``LayerGradientXActivation``, which runs layer by layer. Trust on the trained digits
network: the estimate's ranking against the exact sweep of the same units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from captum.attr import LayerGradientXActivation
from scipy.stats import spearmanr
from torch import Tensor

import memviz as mv
from benchmarks.models import SUBJECTS, Subject, subject
from benchmarks.report import about, parser, show, significant
from benchmarks.timing import in_turn, one_thread

TOP = 10


def measure(
    model: str = "resnet9", *, examples: int = 64, repeats: int = 3, digits: bool = True
) -> dict[str, Any]:
    """Cost on one model; with ``digits``, also how far to trust it on the digits network."""
    with one_thread():
        chosen = subject(model)
        study = chosen.study(examples)
        units = mv.UnitSet({name: range(count) for name, count in chosen.units().items()})
        found = mv.estimate(study, units)
        theirs = torch.cat([captum_changes(chosen, study, layer) for layer in units.layers])
        ways = {
            "memviz": lambda: mv.estimate(study, units),
            "pass": lambda: margins(study, study.batch(torch.arange(examples))).sum().backward(),
            "captum": lambda: [captum_changes(chosen, study, layer) for layer in units.layers],
        }
        timings = in_turn(ways, repeats, warm=False)
        chosen.model.zero_grad(set_to_none=True)
        error = (found.margin_change - theirs).abs().max() / theirs.abs().max()
        ours = timings["memviz"].median
        return {
            "benchmark": "estimate",
            "model": model,
            "units": len(units),
            "examples": examples,
            "seconds": significant(ours),
            "ms_per_example": significant(ours / examples * 1000),
            "cost_of_one_forward_and_backward": significant(ours / timings["pass"].median),
            "ratio_captum": significant(timings["captum"].median / ours),
            "max_error": significant(float(error), 2),
            **({"digits": _trust()} if digits else {}),
            "about": about(),
        }


def margins(study: mv.Study, inputs: Any) -> Tensor:
    """Margin of every example, with gradients."""
    return study.task.margin(study.model(inputs), study.labels)


def captum_changes(chosen: Subject, study: mv.Study, layer: str) -> Tensor:
    """The same estimate of one layer's units by Captum, ``[units, n]``."""
    ours = LayerGradientXActivation(lambda inputs: margins(study, inputs), chosen.module(layer))
    inputs = study.batch(torch.arange(len(study)))
    found = ours.attribute(inputs).detach().movedim(chosen.axis, 1)
    total: Tensor = found.flatten(2).sum(2) if found.dim() > 2 else found
    return -total.T


def _trust() -> dict[str, Any]:
    """Estimate against exact values on the examples that the digits network has memorized."""
    study = mv.demo("digits")
    memorized = study.group("memorized")
    guess = mv.estimate(study, examples=memorized).margin_change
    exact = mv.sweep(study, examples=memorized, progress=False).margin_change
    best, likely = exact.argmin(0), guess.topk(TOP, 0, largest=False).indices
    return {
        "examples": len(memorized),
        "units": len(exact),
        "rank_correlation_of_mean_effect": significant(
            spearmanr(guess.mean(1).numpy(), exact.mean(1).numpy()).statistic
        ),
        "best_unit_is_first": significant(float((guess.argmin(0) == best).float().mean())),
        f"best_unit_among_first_{TOP}": significant(float((likely == best).any(0).float().mean())),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("estimate", __doc__)
    arguments.add_argument("--model", choices=list(SUBJECTS), default="resnet9")
    arguments.add_argument("--examples", type=int, default=64)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    result = measure(chosen.model, examples=chosen.examples, repeats=chosen.repeats)
    show(result, as_json=chosen.json)


if __name__ == "__main__":
    main()
