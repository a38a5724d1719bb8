"""Other programs that answer the same question, on the same inputs, checked against the hook.

Captum comes with memviz. nnsight and pytorch-grad-cam are measured where they are installed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerFeatureAblation
from torch import Tensor

import memviz as mv
from benchmarks.hook import hook_logits
from benchmarks.models import Subject
from benchmarks.report import significant
from benchmarks.timing import in_turn


@dataclass
class CaptumPart:
    """Captum's answer for some units of a layer, and how many forward passes it took.

    ``drops`` is ``[units, n]``: the label's logit minus the same with the unit ablated. Captum runs
    ``passes`` passes per batch for ``features`` features; a whole layer takes one for each of
    its units and ``fixed`` more.
    """

    drops: Tensor
    passes: float
    features: int

    @property
    def fixed(self) -> float:
        """Passes that do not depend on the number of units."""
        return self.passes - self.features


def captum_part(
    subject: Subject, study: mv.Study, units: Sequence[mv.Unit], batch: int
) -> CaptumPart:
    """``LayerFeatureAblation`` of some units of one layer, one channel per feature.

    Everything else in the layer is one more feature, which Captum ablates too, as it must.
    """
    passes = 0

    def forward(inputs: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        logits: Tensor = subject.model(inputs)
        return logits

    chosen = [unit.index for unit in units]
    mask: Tensor | None = None
    ablation = LayerFeatureAblation(forward, subject.module(units[0].layer))
    drops, batches = [], torch.arange(len(study)).split(batch)
    for positions in batches:
        inputs = study.inputs[positions]
        if mask is None:
            mask = _mask(subject, units[0].layer, chosen)
        found = ablation.attribute(inputs, target=study.labels[positions], layer_mask=mask)
        drops.append(_channels(found, subject.axis, chosen))
    features = len(set(mask.flatten().tolist())) if mask is not None else 0
    return CaptumPart(torch.cat(drops, 1), passes / len(batches), features)


def _mask(subject: Subject, layer: str, chosen: Sequence[int]) -> Tensor:
    shape: list[int] = []
    handle = subject.module(layer).register_forward_hook(lambda _m, _i, o: shape.extend(o.shape))
    with torch.no_grad():
        subject.model(subject.inputs[:1])
    handle.remove()
    mask = torch.zeros(shape[subject.axis], dtype=torch.long)
    mask[list(chosen)] = torch.arange(1, len(chosen) + 1)
    if len(set(mask.tolist())) == len(chosen):
        mask -= 1  # all units are chosen: features count from 0
    spread = [1] * len(shape)
    spread[subject.axis] = -1
    return mask.view(spread)


def _channels(found: Tensor, axis: int, chosen: Sequence[int]) -> Tensor:
    """The drops ``[units, n]``; every position of a channel holds the same."""
    channels = found.movedim(axis, 1).flatten(1)
    positions = channels.shape[1] // found.shape[axis]
    return channels[:, ::positions][:, list(chosen)].T


def hook_drops(
    subject: Subject, study: mv.Study, units: Sequence[mv.Unit], batch: int
) -> tuple[Tensor, float]:
    """What Captum should find, from the hook, ``[units, n]``, and the largest logit."""
    parts, largest = [], 0.0
    with torch.inference_mode():
        for positions in torch.arange(len(study)).split(batch):
            inputs = study.inputs[positions]
            labels = study.labels[positions][:, None]
            clean = subject.model(inputs)
            largest = max(largest, float(clean.abs().max()))
            ablated = [hook_logits(subject, unit, inputs) for unit in units]
            drops = [(clean - logits).gather(1, labels)[:, 0] for logits in ablated]
            parts.append(torch.stack(drops))
    return torch.cat(parts, 1), largest


def others(subject: Subject, batch: int, repeats: int = 3) -> dict[str, Any]:
    """The optional peers: what each costs as a multiple of the hook, and whether they agree."""
    found: dict[str, Any] = {
        "nnsight": _guarded("nnsight", lambda: _nnsight(subject, batch, repeats))
    }
    if subject.name == "resnet9":  # it zeroes channels only where the smallest activation is 0
        cam = _guarded("grad-cam", lambda: _ablation_cam(subject, batch, repeats))
        found["pytorch-grad-cam"] = cam
    return found


def _guarded(package: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any] | str:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    return {"version": version, **run()}


def _nnsight(subject: Subject, batch: int, repeats: int) -> dict[str, Any]:
    """One traced pass per unit, at the hook's batch size."""
    from nnsight import NNsight

    layer = next(iter(subject.sites))
    unit, inputs = mv.Unit(layer, 0), subject.inputs[:batch]
    wrapped = NNsight(subject.model)
    module = operator.attrgetter(subject.sites[layer])(wrapped)

    def traced() -> Tensor:
        with torch.no_grad(), wrapped.trace(inputs):
            module.output.select(subject.axis, 0).zero_()
            logits: Tensor = wrapped.output.save()
        return logits

    return _compared(subject, unit, inputs, traced, repeats)


def _compared(
    subject: Subject, unit: mv.Unit, inputs: Tensor, run: Callable[[], Tensor], repeats: int
) -> dict[str, Any]:
    expected = hook_logits(subject, unit, inputs)
    error = float((run() - expected).abs().max() / expected.abs().max())
    ways = {"peer": run, "hook": lambda: hook_logits(subject, unit, inputs)}
    timings = in_turn(ways, repeats)
    ratio = timings["peer"].median / timings["hook"].median
    return {"cost_of_hook": significant(ratio), "max_error": significant(error, 2)}


def _ablation_cam(subject: Subject, batch: int, repeats: int) -> dict[str, Any]:
    """AblationCAM's scores of all channels of the first layer, for one image, 32 a pass."""
    from pytorch_grad_cam import AblationCAM

    layer = next(iter(subject.sites))
    module, count = subject.module(layer), subject.units()[layer]
    image, label = subject.inputs[:1], int(subject.labels[0])
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        clean = subject.model(image)[0, label]
    handle.remove()
    units = [mv.Unit(layer, index) for index in range(count)]

    def scores() -> Any:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            cam = AblationCAM(subject.model, [module])
            found = cam.get_cam_weights(image, module, [lambda o: o[label]], seen[0].numpy(), None)
            cam.activations_and_grads.release()
        return torch.from_numpy(found)[0] * clean  # it divides by the clean score

    def hooked() -> Tensor:
        return torch.stack([clean - hook_logits(subject, unit, image)[0, label] for unit in units])

    expected = hooked()
    error = float((scores() - expected).abs().max() / clean.abs())
    several = subject.inputs[:batch]
    # The hook at its best batch, an example and unit; AblationCAM takes one image at a time.
    ways = {"peer": scores, "hook": lambda: hook_logits(subject, units[0], several)}
    timings = in_turn(ways, repeats)
    ratio = timings["peer"].median / count / (timings["hook"].median / batch)
    return {"cost_of_hook": significant(ratio), "max_error": significant(error, 2)}
