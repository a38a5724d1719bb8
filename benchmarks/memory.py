"""Peak memory of a ResNet-18 sweep under a memory budget, in a process of its own.

    python -m benchmarks memory

The recorded passes of these examples would take several times the budget, so each chunk is recorded
again and thrown away. What counts is how much the process grows beyond what it held with the model,
the examples and one plain forward pass of a batch of 32.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch

import memviz as mv
from benchmarks.engines import ENGINES, evaluate
from benchmarks.models import SUBJECTS, subject
from benchmarks.report import about, parser, show
from benchmarks.timing import one_thread, peak_memory
from memviz.engine.sweep import Engine

MIB = 2**20


def measure(
    model: str = "resnet18", *, budget_mb: int = 256, examples: int = 128, sample: int = 1
) -> dict[str, Any]:
    """Sweep with each engine under the budget, in a process of its own, and read its peak.

    Parameters
    ----------
    model : str
    budget_mb : int
        What the engine is given as ``memory``, in MiB.
    examples : int
    sample : int
        Units of each layer.
    """
    found: dict[str, Any] = {"benchmark": "memory", "model": model}
    for engine in ENGINES:
        asked = [sys.executable, "-m", "benchmarks", "memory", "--json", "--inside", engine]
        numbers = {"--model": model, "--budget": budget_mb, "--examples": examples}
        for name, value in {**numbers, "--sample": sample}.items():
            asked += [name, str(value)]
        done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True)
        facts = json.loads(done.stdout)
        facts["within_budget"] = facts["grown_mb"] <= budget_mb
        before = "" if engine == ENGINES[0] else f"{engine}_"
        found |= {before + key: value for key, value in facts.items()}
    return {**found, "about": about()}


def inside(
    engine: Engine, model: str, budget_mb: int, examples: int, sample: int
) -> dict[str, Any]:
    """The sweep itself; nothing large may have run in this process before."""
    with one_thread():
        chosen = subject(model)
        study = chosen.study(examples)
        with torch.inference_mode():
            study.model(study.inputs[:32])
        before = peak_memory()
        units = [mv.Unit(name, index) for name in chosen.sites for index in range(sample)]
        replay = mv.Replay(study, memory=budget_mb * MIB)
        effects = evaluate(engine, replay, units)
        peak = peak_memory()
    return {
        "budget_mb": budget_mb,
        "examples": examples,
        "units": len(units),
        "path": effects.engine,
        "whole_record_mb": replay.trace.bytes // 2 * examples // MIB,
        "before_mb": before // MIB,
        "peak_mb": peak // MIB,
        "grown_mb": (peak - before) // MIB,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("memory", __doc__)
    arguments.add_argument("--model", choices=list(SUBJECTS), default="resnet18")
    arguments.add_argument("--budget", type=int, default=256, help="MiB, as given to the sweep")
    arguments.add_argument("--examples", type=int, default=128)
    arguments.add_argument("--sample", type=int, default=1, help="units of each layer")
    arguments.add_argument("--inside", choices=ENGINES, help="sweep in this very process")
    chosen = arguments.parse_args(argv)
    numbers = {"budget_mb": chosen.budget, "examples": chosen.examples, "sample": chosen.sample}
    if chosen.inside:
        found = inside(chosen.inside, chosen.model, **numbers)
    else:
        found = measure(chosen.model, **numbers)
    show(found, as_json=chosen.json)


if __name__ == "__main__":
    main()
