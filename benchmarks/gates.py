"""Hard networks of logic gates on packed bits, beside the float network.

    python -m benchmarks gates

Inference of 64 examples a word beside the forward pass of the same hard network in float; and the
sweep, every gate alone on every example, beside a hook loop at the same batch, one run of the float
network per gate. Some gates of each layer, spread evenly, are measured with hooks and extrapolated;
all answers are compared. The gates are drawn at random, those of digits: a dense network, and one
with trees and pools.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from benchmarks.report import about, parser, show, significant
from benchmarks.timing import Timing, in_turn, one_thread
from memviz.models.logic_gates import (
    DenseGates,
    GroupSum,
    PackedNetwork,
    Thresholds,
    TreeConv,
    logic_dense_net,
)

SAMPLED = 6  # gates of each layer that run with a hook


def dense() -> nn.Sequential:
    """Three layers of 3,000 gates for digits of 8 by 8."""
    levels = (0.25, 0.5, 0.75)
    return logic_dense_net(64, [3000] * 3, 10, thresholds=levels, init="gaussian").eval()


def trees() -> nn.Sequential:
    """Two layers of trees with pools and two dense ones for digits of 8 by 8."""
    return nn.Sequential(
        Thresholds([0.2, 0.4, 0.6, 0.8]),
        TreeConv(4, 64, padding=1, init="gaussian"),
        nn.MaxPool2d(2),
        TreeConv(64, 128, padding=1, groups=8, init="gaussian", seed=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        DenseGates(512, 1280, init="gaussian", seed=2),
        DenseGates(1280, 640, init="gaussian", seed=3),
        GroupSum(10, 8.0),
    ).eval()


NETWORKS = {"dense": dense, "trees": trees}


def measure(*, examples: int = 1000, repeats: int = 3, sampled: int = SAMPLED) -> dict[str, Any]:
    """Both ratios for each network, and the smaller of each."""
    with one_thread():
        torch.manual_seed(0)
        found = {name: _network(name, examples, repeats, sampled) for name in NETWORKS}
    return {
        "benchmark": "gates",
        **{key: min(facts[key] for facts in found.values()) for key in _RATIOS},
        **found,
        "about": about(),
    }


_RATIOS = ("packed_speedup", "sweep_speedup")


def _network(name: str, examples: int, repeats: int, sampled: int) -> dict[str, Any]:
    model = NETWORKS[name]()
    digits = torch.rand(examples, *((1, 8, 8) if name == "trees" else (64,)))
    study = mv.Study(model, digits, torch.arange(examples) % 10, {"test": range(examples)})
    packed = PackedNetwork(model)
    with torch.no_grad():
        passes = in_turn(
            {"float": lambda: model(digits), "packed": lambda: packed.votes(digits)}, repeats
        )
        equal = bool((packed.votes(digits) == model[-1].votes(model(digits))).all())
    sweeps, hooks = Timing(), Timing()
    effects = sweeps.run(lambda: mv.sweep(study, progress=False))
    layers = mv.layers(study)
    loop, errors = 0.0, []
    for layer in layers:
        units = [round(k * (layer.units - 1) / (sampled - 1)) for k in range(sampled)]
        for unit in units:
            margins, losses = hooks.run(partial(_hooked, study, layer.name, unit))
            row = effects.units.index(mv.Unit(layer.name, unit))
            changes = effects.margin_change[row], effects.loss_change[row]
            for hooked, clean, change in zip(
                (margins, losses), (effects.margin, effects.loss), changes, strict=True
            ):
                errors.append(float((hooked - clean - change).abs().max()))
        loop += layer.units * sum(hooks.cpu[-sampled:]) / sampled
    return {
        "gates": len(effects.units),
        "examples": examples,
        "engine": effects.engine,
        "float_ms": significant(1000 * passes["float"].median),
        "packed_ms": significant(1000 * passes["packed"].median),
        "packed_speedup": significant(passes["float"].median / passes["packed"].median),
        "packed_equal": equal,
        "hook_loop_seconds": significant(loop),
        "sweep_seconds": significant(sweeps.median),
        "sweep_speedup": significant(loop / sweeps.median),
        "max_error": significant(max(errors), 2),
    }


@torch.no_grad()
def _hooked(study: mv.Study, layer: str, unit: int) -> tuple[Tensor, Tensor]:
    """Margins and losses with one gate at 0, by a plain hook."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output = output.clone(memory_format=torch.contiguous_format)
        gates = output.flatten(1, 2) if output.dim() > 2 else output
        gates[:, unit] = 0
        return output

    handle = study.model.get_submodule(layer).register_forward_hook(hook)
    outputs = study.model(study.inputs)
    handle.remove()
    task = study.task
    return task.margin(outputs, study.labels), task.loss(outputs, study.labels)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("gates", __doc__)
    arguments.add_argument("--examples", type=int, default=1000)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    show(measure(examples=chosen.examples, repeats=chosen.repeats), as_json=chosen.json)


if __name__ == "__main__":
    main()
