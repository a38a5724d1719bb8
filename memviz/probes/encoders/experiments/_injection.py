"""The injection check: an image is planted in a unit, and UnitMem must find both."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from memviz.checks import Count, IndicesLike, Positive, checked, coded, quoted
from memviz.engine.record import (
    Edit,
    Layout,
    Located,
    Site,
    Trace,
    layout,
    locate,
    run_edited,
    split,
    trace,
)
from memviz.probes.encoders.units import unit_mem
from memviz.progress import slow
from memviz.restored import undisturbed
from memviz.study import Study, check_examples, check_ready
from memviz.units import Unit, UnitSet, UnknownLayerError

from .._modules import check_unshared, norms_behind
from .._scores import UnitScores, training_examples

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Injection:
    """A study with an image planted in one unit, and UnitMem of that unit's layer.

    Attributes
    ----------
    study : Study
        With a fine-tuned copy of the model; the given study is unchanged.
    unit : Unit
    example : int
        The planted image.
    before, after : UnitScores
        UnitMem of the layer's units.
    course : DataFrame
        One row per recorded step: ``step``, the loss, the unit's activation on the image (its
        highest, before the non-linearity), and the highest on any other image.
    """

    study: Study
    unit: Unit
    example: int
    before: UnitScores
    after: UnitScores
    course: pd.DataFrame

    @property
    def rank(self) -> int:
        """Rank of the unit in its layer by UnitMem; 1 is the top, and units that tie share theirs.

        A unit that is dead after the tuning comes after all others.
        """
        planted = self.after.values[self.unit.index]
        if np.isnan(planted):
            return int((~self.after.dead).sum()) + 1
        return int((self.after.values > planted).sum()) + 1

    @property
    def found(self) -> bool:
        """Whether the unit ranks first and the planted image owns it."""
        owners = self.after.owners
        return bool(
            self.rank == 1 and owners is not None and owners[self.unit.index] == self.example
        )

    @property
    def others_changed(self) -> float:
        """Largest change of UnitMem among the other units of the layer."""
        changes = np.abs(self.after.values - self.before.values)
        changes[self.unit.index] = np.nan
        return float(np.nanmax(changes)) if not np.isnan(changes).all() else 0.0

    def __repr__(self) -> str:
        row = self.unit.index
        assert self.after.owners is not None
        return (
            f"image {self.example} planted in {self.unit}: UnitMem "
            f"{self.before.values[row]:.3f} → {self.after.values[row]:.3f}, rank {self.rank} of "
            f"{len(self.after)}, owned by image {self.after.owners[row]}\nother units of the layer "
            f"changed by at most {self.others_changed:.2g}"
        )


@checked
def inject(
    study: Study,
    example: int,
    unit: Unit | str,
    *,
    examples: IndicesLike | None = None,
    steps: Count = 300,
    learning_rate: Positive = 0.01,
    progress: bool = True,
) -> Injection:
    """Fine-tune one unit of a convolution or linear layer until a single image fires it.

    A sharper form of the check of Wang et al. 2024 (section 5.3), who fine-tune the last
    convolution on one image with the training loss and watch the units. Here the truth is known:
    only the unit's own weights (and its shift in the batch norm that follows) are tuned, by a
    logistic loss that asks for an activation above 1 somewhere on the image and below -1 everywhere
    on the others. Units of the same and of earlier layers cannot change; those of later layers may.
    A unit with few weights (in a first layer, say) may be unable to tell the image from the others,
    so check ``found``.

    Parameters
    ----------
    study : Study
        Unchanged; a copy of its model is tuned.
    example : int
        The image to plant.
    unit : Unit or str
        For example ``"conv4:7"``.
    examples : int64 ``[n]``, optional
        Images that should not fire the unit; the training images by default.
    steps, learning_rate
        Of Adam, on all images at once.

    Raises
    ------
    KeyError, IndexError
        If the study has no such layer, unit or example.
    ValueError
        If the layer is a grouped convolution, computes its weights or shares them, or a norm other
        than batch norm follows it.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.eye(4), torch.zeros(4), {"training": range(4)})
    >>> planted = inject(study, 2, "0:5", progress=False)
    >>> planted.found, planted.others_changed
    (True, 0.0)
    """
    target = _unit(unit)
    check_ready(study.model)
    if not 0 <= example < len(study):
        raise IndexError(
            f"there is no example {example}; the study has {len(study)}, numbered from 0."
        )
    others = training_examples(study) if examples is None else check_examples(study, examples)
    images = torch.cat([torch.tensor([example]), others[others != example]])
    if len(images) < 2:
        raise ValueError(
            "there is no other image that should not fire the unit; give more examples."
        )
    model = deepcopy(study.model)
    tuned = replace(study, model=model)
    local = _local(tuned, target, images)
    score = partial(unit_mem, layers=[target.layer], examples=images.sort().values,
                    random_networks=0, progress=progress)  # fmt: skip
    before = score(study)
    course = local.tune(local.inputs(tuned, images, progress), steps, learning_rate, progress)
    local.write()
    return Injection(tuned, target, example, before, score(tuned), course)


@dataclass(eq=False)
class _Local:
    """One unit by itself: its weights, its batch norm, and where its layer reads its input."""

    module: nn.Module
    norm: nn.Module | None
    unit: int
    pass_: Trace
    call: int
    laid_out: Layout

    def __post_init__(self) -> None:
        kernel: Any = self.module.weight
        self.weight = kernel.detach()[self.unit].clone().requires_grad_()
        bias: Any = getattr(self.module, "bias", None)
        self.scale = torch.ones((), device=kernel.device)
        self.fixed = torch.zeros((), device=kernel.device)
        own = None if bias is None else bias.detach()[self.unit]
        if self.norm is not None:
            norm: Any = self.norm
            self.scale = (norm.running_var[self.unit] + norm.eps).rsqrt()
            self.fixed = -norm.running_mean[self.unit] * self.scale
            if norm.affine:
                self.scale = self.scale * norm.weight.detach()[self.unit]
                self.fixed = self.fixed * norm.weight.detach()[self.unit]
            self.fixed = self.fixed + (0.0 if own is None else own * self.scale)
            own = norm.bias.detach()[self.unit] if norm.affine else None
        # A layer without a bias or batch norm of its own has no shift to tune.
        self.shift = torch.zeros((), device=kernel.device) if own is None else own.clone()
        self.shift.requires_grad_(own is not None)

    def inputs(self, study: Study, images: Tensor, progress: bool) -> Tensor:
        """The layer's input for each image, ``[n, ...]``."""
        site, parts = Site(self.call, "input", 1, 1, 0), []
        for positions in slow(split(len(images), _CHUNK), "inputs", progress=progress):

            def keep(value: Tensor) -> Tensor:
                parts.append(self.laid_out.rows(value).detach().clone())
                return value

            call = study.call(study.batch(images[positions]))
            calm = undisturbed(random=self.pass_.random, counting=self.pass_.counting)
            with calm, calm:
                run_edited(self.pass_, [Edit(site, keep)], call)
        return torch.cat(parts)

    def activations(self, given: Tensor) -> Tensor:
        """The unit before its non-linearity, at its highest position, ``[n]``."""
        if isinstance(self.module, nn.Linear):
            raw = given @ self.weight
        else:
            conv: Any = self.module
            raw = conv._conv_forward(given.squeeze(1), self.weight[None], None)
        high: Tensor = (self.scale * raw + self.fixed + self.shift).flatten(1).amax(1)
        return high

    def tune(self, given: Tensor, steps: int, learning_rate: float, progress: bool) -> pd.DataFrame:
        """Tune by a logistic loss: the first row above 1, all others below -1."""
        import pandas as pd

        free = [tensor for tensor in (self.weight, self.shift) if tensor.requires_grad]
        optimizer = torch.optim.Adam(free, learning_rate)
        rows, interval = [], max(1, steps // 20)
        for step in slow(range(steps + 1), "fine-tuning one unit", progress=progress):
            with torch.enable_grad():
                high = self.activations(given)
                loss = softplus(4 * (1 - high[0])) + softplus(4 * (1 + high[1:])).mean()
            if step % interval == 0 or step == steps:
                rows.append((step, loss.item(), high[0].item(), high[1:].max().item()))
            if step < steps:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return pd.DataFrame(rows, columns=["step", "loss", "image", "highest other"])

    @torch.no_grad()
    def write(self) -> None:
        """Write the tuned weights into the model."""
        module: Any = self.module
        module.weight[self.unit] = self.weight.detach()
        owner: Any = module if self.norm is None else self.norm
        if self.shift.requires_grad:
            owner.bias[self.unit] = self.shift.detach()


def _unit(given: Unit | str) -> Unit:
    if isinstance(given, Unit):
        return given
    units = list(UnitSet.of(given))
    if len(units) != 1:
        raise ValueError(f"{quoted(given)} is not a unit; give layer:index, for example 'conv4:7'.")
    return units[0]


def _local(study: Study, unit: Unit, images: Tensor) -> _Local:
    """The unit's layer, the batch norm that follows it, and the layout of the layer's input."""
    single = trace(study.model, study.call(study.batch(images[:1])))
    pair = trace(study.model, study.call(study.batch(images[:2])))
    layers = {
        name: located
        for name, located in locate(study.model, pair).items()
        if located.layer.is_plain
    }
    if unit.layer not in layers:
        raise UnknownLayerError(unit.layer, layers)
    located = layers[unit.layer]
    if unit.index >= located.layer.units:
        raise IndexError(
            coded(
                "E12",
                f"layer {unit.layer!r} has {located.layer.units} units, so there is no unit "
                f"{unit}.",
            )
        )
    module = dict(study.model.named_modules())[unit.layer]
    plain = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    call = located.filter_sites[0].call
    if not plain or getattr(module, "groups", 1) != 1 or len(located.filter_sites) > 1:
        raise ValueError(
            f"layer {unit.layer!r} is a {type(module).__name__} that can't be tuned unit by unit; "
            "choose an ungrouped convolution or a linear layer that is called once."
        )
    weights = [*module.parameters(recurse=False)]
    used = pair.calls[call].inputs[1:]
    if len(used) != len(weights) or any(w is not u for w, u in zip(weights, used, strict=True)):
        raise ValueError(
            f"layer {unit.layer!r} does not use its weights as they are, so a unit of it can't be "
            "tuned by itself; choose a plain layer."
        )
    check_unshared(study.model, [module])
    laid_out = layout(single.calls[call].inputs[0].shape, 1, pair.calls[call].inputs[0].shape, 2)
    if laid_out is None or (laid_out.places > 1 and not isinstance(module, nn.Linear)):
        raise ValueError(
            f"layer {unit.layer!r} does not read each example by itself; choose another layer."
        )
    return _Local(module, _norm(study.model, pair, located), unit.index, pair, call, laid_out)


def _norm(model: nn.Module, seen: Trace, located: Located) -> nn.Module | None:
    """The batch norm between a layer's weights and its non-linearity."""
    norms = norms_behind(model, seen, located)
    for norm in norms:
        is_batch_norm = isinstance(norm, nn.modules.batchnorm._BatchNorm)
        if not is_batch_norm or not norm.track_running_stats:
            raise ValueError(
                f"layer {located.layer.name!r} is followed by a {type(norm).__name__}, which mixes "
                "units or images; choose a layer followed by batch norm or no norm."
            )
    return norms[0] if norms else None
