"""UnitMem's loop over augmented copies, beside hooks that store every activation.

    python -m benchmarks activations

Both run the same copies in the same batches and give the same answers: the largest of each unit's
means over the copies, the example that reaches it, and the mean of the others. The hooks sit after
the same non-linearities, take the mean over positions and keep it for each copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from benchmarks.models import Subject, subject
from benchmarks.report import about, parser, show, significant
from benchmarks.timing import in_turn, one_thread
from memviz.engine.activations import ActivationStatistics, UnitActivations, activation_statistics

COPIES = 10
LARGE = 250  # the batch that a script would take: our own is small enough for the cache
EXAMPLES = {"resnet9": 50, "vit": 50, "mlp": 500}
MANY = 50_000  # examples for which the kept bytes are told


def brightened(inputs: Tensor, _generator: torch.Generator | None = None) -> Tensor:
    """Cheap copies, the same for both, so that only the loop is measured."""
    steps = torch.linspace(-0.5, 0.5, COPIES).repeat(len(inputs) // COPIES)
    return inputs + steps.view(-1, *[1] * (inputs.dim() - 1))


def measure(models: Sequence[str] = tuple(EXAMPLES), repeats: int = 3) -> dict[str, dict[str, Any]]:
    """Medians, spread, ratios and the error of each model."""
    with one_thread():
        return {name: _measured(subject(name), repeats) for name in models}


def _measured(one: Subject, repeats: int) -> dict[str, Any]:
    examples = EXAMPLES[one.name]
    study, layers = one.study(examples), list(one.sites)
    stream = UnitActivations(study, layers, brightened, COPIES)
    batch = stream.size * COPIES
    ways = {
        "ours": lambda: activation_statistics(study, layers, brightened, COPIES, progress=False),
        "hooks": lambda: stored(one, study, batch),
        "large": lambda: stored(one, study, LARGE),
    }
    timings = in_turn(ways, repeats)
    found, true = ways["ours"](), ways["hooks"]()
    each = {name: 1000 * timings[name].median / (examples * COPIES) for name in ways}
    units = len(found.units)
    return {
        "ours_ms": significant(each["ours"]),
        "hooks_ms": significant(each["hooks"]),
        "hooks_large_batch_ms": significant(each["large"]),
        "ours_spread": significant(timings["ours"].spread, 2),
        "hooks_spread": significant(timings["hooks"].spread, 2),
        "ratio_hooks": significant(each["hooks"] / each["ours"]),
        "ratio_hooks_large_batch": significant(each["large"] / each["ours"]),
        "max_error": significant(_error(found, true), 2),
        "equal_examples": bool((found.example == true[1]).all()),
        "batch": batch,
        "large_batch": LARGE,
        "examples": examples,
        "copies": COPIES,
        "kept_bytes": units * 28,  # three float32, one float64 and one int64 a unit
        "kept_bytes_of_hooks": units * MANY * COPIES * 4,
        "kept_for_examples": MANY,
    }


def stored(one: Subject, study: mv.Study, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum, its example and the mean of the others, from every activation of every copy."""
    kept: dict[str, list[Tensor]] = {layer: [] for layer in one.sites}
    handles = [one.module(layer).register_forward_hook(_keeper(kept[layer], one)) for layer in kept]
    try:
        for positions in torch.arange(len(study)).repeat_interleave(COPIES).split(batch):
            with torch.no_grad():
                one.model(brightened(study.inputs[positions]))  # type: ignore[index]
    finally:
        for handle in handles:
            handle.remove()
    values = torch.cat([torch.cat(parts) for parts in kept.values()], 1)
    means = values.unflatten(0, (len(study), COPIES)).mean(1)
    high, example = means.max(0)
    return high, example, (means.sum(0) - high) / (len(study) - 1)


def _keeper(kept: list[Tensor], one: Subject) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        positions = [k for k in range(1, output.dim()) if k != one.axis % output.dim()]
        kept.append(output.mean(positions) if positions else output)

    return keep


def _error(found: ActivationStatistics, true: tuple[Tensor, Tensor, Tensor]) -> float:
    """Largest difference as a share of the largest activation."""
    pairs = ((found.maximum, true[0]), (found.others, true[2]))
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("activations", __doc__)
    arguments.add_argument("--models", nargs="+", choices=list(EXAMPLES), default=list(EXAMPLES))
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    with one_thread():
        show({**measure(chosen.models, chosen.repeats), "about": about()}, as_json=chosen.json)


if __name__ == "__main__":
    main()
