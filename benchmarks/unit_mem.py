"""UnitMem of every unit of a ResNet-18 in one pass, its time and memory, beside plain hooks.

    python -m benchmarks unit_mem

250 and 1,000 images of 64 pixels, ten augmented copies each, through torchvision's own network, in
a process of its own each. The hooks keep one number per unit and copy, as the paper's scripts do
for one unit after another. What counts is how much the process grows beyond what it held with the
network, the images and one batch; ours must not grow with the number of images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import memviz as mv  # before torchvision, which it lets be imported

import torch  # isort: skip
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.report import about, parser, show, significant
from benchmarks.timing import Timing, one_thread, peak_memory
from memviz.probes.encoders.units import unit_mem

EXAMPLES, COPIES, SIDE, CLASSES = (250, 1000), 10, 64, 10
HOOK_BATCH = 100
WAYS = ("ours", "hooks")
MIB = 2**20


def measure(examples: Sequence[int] = EXAMPLES, side: int = SIDE) -> dict[str, Any]:
    """Seconds and memory of both methods for each number of images, and whether they agree."""
    rows: dict[str, dict[str, Any]] = {}
    grown = []
    for number in examples:
        for way in WAYS:
            asked = [sys.executable, "-m", "benchmarks.unit_mem", "--json", "--inside", way]
            asked += ["--examples", str(number), "--side", str(side)]
            done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True)
            rows[f"{way}, {number:,} images"] = json.loads(done.stdout)
        ours, hooks = (rows[f"{way}, {number:,} images"] for way in WAYS)
        ours["ratio_hooks"] = significant(hooks["cpu_s"] / ours["cpu_s"])
        grown.append(ours["grown_mb"])
    found = {"benchmark": "unit_mem", "model": "resnet18", "copies": COPIES, "side": side}
    return {**found, "grown_between_mb": grown[-1] - grown[0], **rows, "about": about()}


def inside(way: str, examples: int, side: int) -> dict[str, Any]:
    """One method, in this process; nothing large may have run in it before."""
    with one_thread():
        study = subject(examples, side)
        with torch.inference_mode():
            study.model(study.inputs[:HOOK_BATCH])  # type: ignore[index]
        few = mv.Study(study.model, study.inputs[:4], study.labels[:4], {"a": range(4)})  # type: ignore[index]
        mine, theirs = ours(few), hooked(few)
        dead = mine.isnan() & theirs.isnan()  # a unit that one way alone takes for dead is an error
        error = (mine - theirs)[~dead].abs().max()
        before = peak_memory()
        ways: dict[str, Callable[[mv.Study], Tensor]] = {"ours": ours, "hooks": hooked}
        timing = Timing()
        values = timing.run(lambda: ways[way](study))
        peak = peak_memory()
    return {
        "cpu_s": significant(timing.median),
        "wall_s": significant(timing.median_wall),
        "before_mb": before // MIB,
        "grown_mb": (peak - before) // MIB,
        "units": len(values),
        "max_error": significant(float(error), 2),
    }


def subject(examples: int, side: int) -> mv.Study:
    """The network with random weights, its batch norms measured on a batch, and noise images."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = resnet18(num_classes=CLASSES)
    images = torch.randn(examples, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.train()(images[:32])
    return mv.Study(model.eval(), images, torch.zeros(examples), {"training": range(examples)})


def brightened(copies: Tensor, _generator: torch.Generator | None = None) -> Tensor:
    """Cheap copies, the same for both, so that only the pass is measured."""
    steps = torch.linspace(-0.5, 0.5, COPIES).repeat(len(copies) // COPIES)
    return copies + steps.view(-1, 1, 1, 1)


def ours(study: mv.Study) -> Tensor:
    """UnitMem of every unit but the output's."""
    found = unit_mem(study, augment=brightened, augmentations=COPIES, random_networks=0,
                     progress=False)  # fmt: skip
    return torch.from_numpy(found.values)


def hooked(study: mv.Study) -> Tensor:
    """The same by plain hooks that keep each unit's mean over the map, for every copy."""
    model, kept = study.model, dict[str, list[Tensor]]()
    handles = [
        norm.register_forward_hook(_keeper(kept.setdefault(name, []), name))
        for name, norm in model.named_modules()
        if isinstance(norm, nn.BatchNorm2d)
    ]
    try:
        for batch in torch.arange(len(study)).split(HOOK_BATCH // COPIES):
            copies = study.inputs[batch.repeat_interleave(COPIES)]  # type: ignore[index]
            with torch.inference_mode():
                model(brightened(copies))
    finally:
        for handle in handles:
            handle.remove()
    values = torch.cat([torch.cat(parts) for parts in kept.values()], 1)
    means = values.unflatten(0, (len(study), COPIES)).mean(1).abs().double()
    high = means.amax(0)
    others = (means.sum(0) - high) / (len(study) - 1)
    return (high - others) / (high + others)


def _keeper(kept: list[Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        # A block's first norm is followed by a ReLU, the second by the sum with the skip.
        fires = output.relu() if name.endswith("bn1") else output
        kept.append(fires.mean((2, 3)))

    return keep


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("unit_mem", __doc__)
    arguments.add_argument("--examples", type=int, nargs="+", default=list(EXAMPLES))
    arguments.add_argument("--side", type=int, default=SIDE, help="pixels")
    arguments.add_argument("--inside", choices=WAYS, help="measure in this very process")
    chosen = arguments.parse_args(argv)
    if chosen.inside:
        found = inside(chosen.inside, chosen.examples[0], chosen.side)
    else:
        found = measure(chosen.examples, chosen.side)
    show(found, as_json=chosen.json)


if __name__ == "__main__":
    main()
