"""Gradient norms of each example, beside vmap(grad) and a loop over the examples.

    python -m benchmarks gradient_norms

Times are CPU milliseconds per example, on one thread. ``vmap(grad)`` gets the chunk size at which
it is fastest. Our time is for whole calls, in which the rules are first checked on two examples: it
holds for the number of examples given beside it, and shrinks with more. ``pass_ms`` is the least
any method needs that uses the gradients of the layers' outputs: a forward pass, and a backward pass
down to the first layer.

Errors are shares of the norm in double precision. In single precision a rounding may fall to the
other side of a ReLU, which moves one example's gradient by as much as 1 %; so the median over the
examples is given beside the maximum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

import memviz as mv
from benchmarks.models import SUBJECTS, Subject, subject
from benchmarks.report import about, parser, show, significant
from benchmarks.timing import in_turn, one_thread
from memviz.engine.gradients import gradient_norms

# Ours and theirs: the time of a loop over examples does not depend on how many there are.
EXAMPLES = {"resnet9": (128, 8), "resnet18": (96, 8), "vit": (128, 8), "mlp": (512, 64)}
CHUNKS = (4, 8, 16, 32)


def measure(models: Sequence[str] = tuple(SUBJECTS), repeats: int = 3) -> dict[str, dict[str, Any]]:
    """Medians, spread, ratios and the error of each model."""
    with one_thread():
        return {name: _measured(subject(name), repeats) for name in models}


def _measured(one: Subject, repeats: int) -> dict[str, Any]:
    many, few = EXAMPLES[one.name]
    ours, theirs, batch = one.study(many), one.study(few), one.study(min(many, max(few, 16)))
    chunk = _best_chunk(theirs)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: gradient_norms(ours, progress=False),
        "vmap": lambda: vmap_norms(theirs, chunk),
        "loop": lambda: loop_norms(theirs),
        "pass": lambda: _passes(one, batch),
    }
    timings = in_turn(ways, repeats)
    each = {
        name: 1000 * timing.median / {"ours": many, "pass": len(batch)}.get(name, few)
        for name, timing in timings.items()
    }
    exact = _exact(one, few)
    found = gradient_norms(ours, progress=False)
    errors = _errors(found.values[:, :few], exact)
    return {
        **{f"{name}_ms": significant(value) for name, value in each.items()},
        **{f"{name}_spread": significant(t.spread, 2) for name, t in timings.items()},
        "ratio_vmap": significant(each["vmap"] / each["ours"]),
        "ratio_loop": significant(each["loop"] / each["ours"]),
        "max_error": significant(float(errors.max()), 2),
        "median_error": significant(float(errors.median()), 2),
        "median_error_of_loop": significant(float(_errors(loop_norms(theirs), exact).median()), 2),
        "one_by_one": len(found.one_by_one),
        "examples": many,
        "examples_of_peers": few,
        "vmap_chunk": chunk,
    }


def vmap_norms(study: mv.Study, chunk: int) -> Tensor:
    """Norms ``[parameters, n]`` from gradients of each example, a whole chunk at once."""
    model = study.model
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, weights, (one[None],)), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    found = []
    for positions in torch.arange(len(study)).split(chunk):
        gradients = each(weights, study.inputs[positions], study.labels[positions])  # type: ignore[index]
        found.append(torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]))
    return torch.cat(found, 1)


def loop_norms(study: mv.Study) -> Tensor:
    """Norms ``[parameters, n]`` by one forward and one backward pass per example."""
    weights = list(study.model.parameters())
    found = []
    for k in torch.arange(len(study))[:, None]:
        loss = F.cross_entropy(study.model(study.inputs[k]), study.labels[k])  # type: ignore[index]
        found.append(torch.stack([g.norm() for g in torch.autograd.grad(loss, weights)]))
    return torch.stack(found, 1)


def _passes(one: Subject, study: mv.Study) -> None:
    """A forward pass, and a backward pass down to the first layer's output."""
    kept: list[Tensor] = []
    layers = (nn.Conv2d, nn.Linear)
    first = next(module for module in one.model.modules() if isinstance(module, layers))
    handle = first.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        losses = F.cross_entropy(one.model(study.inputs), study.labels, reduction="sum")
    finally:
        handle.remove()
    torch.autograd.grad(losses, kept)


def _best_chunk(study: mv.Study) -> int:
    sizes = [size for size in CHUNKS if size <= len(study)]
    ways = {str(size): (lambda size=size: vmap_norms(study, size)) for size in sizes}
    timings = in_turn(ways, 1)
    return min(sizes, key=lambda size: timings[str(size)].median)


def _exact(one: Subject, examples: int) -> Tensor:
    """The loop's norms in double precision."""
    study = one.study(examples)
    double = copy.deepcopy(one.model).double()
    return loop_norms(
        mv.Study(double, study.inputs.double(), study.labels, {"all": range(examples)})
    )


def _errors(norms: Tensor, exact: Tensor) -> Tensor:
    """Each example's largest error, as a share of the norm or of 1 % of the whole gradient's."""
    whole = exact.square().sum(0).sqrt()
    return ((norms - exact).abs() / torch.maximum(exact, whole / 100)).amax(0)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("gradient_norms", __doc__)
    arguments.add_argument("--models", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    with one_thread():
        show({**measure(chosen.models, chosen.repeats), "about": about()}, as_json=chosen.json)


if __name__ == "__main__":
    main()
