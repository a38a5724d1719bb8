"""UnitMem, ClassMem and class selectivity: how much a unit belongs to one image, or one class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from memviz.engine.activation_stream import UnitActivations
from memviz.probes.encoders_null import random_network
from memviz.probes.encoders_peaks import Peaks, class_peaks, peaks
from memviz.scores import Null, Scores
from memviz.study import Study
from memviz.units import Layer, Unit

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Wang et al. 2024 (arXiv:2409.19069)"
_DRAWS = 200  # quantiles that stand for a layer's units in the networks of random weights

# The study's inputs, a tensor or a dict, and a generator to the same changed.
Augment = Callable[[Any, torch.Generator], Any]
Others = Literal["mean", "median"]
Negative = Literal["abs", "refuse"]


@dataclass(frozen=True, eq=False, repr=False)
class UnitScores(Scores):
    """Scores of units, each with the example or class that owns it.

    Attributes
    ----------
    owners : int64 ``[rows]``
        The study's index of the example (for ClassMem the class) that fires the unit most; -1 for
        a dead unit.
    held_out : float ``[rows]``, optional
        The same measure on held-out images, as many.
    """

    owners: np.ndarray | None = None
    held_out: np.ndarray | None = None

    @property
    def dead(self) -> np.ndarray:
        """Units that never fire, bool ``[rows]``; their value is NaN: 0 / 0 is no score."""
        return np.asarray(np.isnan(self.values))

    @property
    def frame(self) -> pd.DataFrame:
        """One row a unit: value, owner, and the nulls."""
        frame = super().frame
        frame.insert(3, "owner", self.owners)
        if self.held_out is not None:
            frame["held_out"] = self.held_out
        return frame

    def __repr__(self) -> str:
        dead = int(self.dead.sum())
        said = f"\n{dead} of {len(self)} units are dead (never fire): NaN" if dead else ""
        if self.held_out is not None:
            means = [float(np.nanmean(v)) if not np.isnan(v).all() else np.nan
                     for v in (self.values, self.held_out)]  # fmt: skip
            said += f"\nmean {means[0]:.3f}; on as many held-out images {means[1]:.3f}"
        return super().__repr__() + said


def unit_mem(
    study: Study,
    layers: Sequence[str] | None = None,
    augment: Augment | None = None,
    augmentations: int = 10,
    examples: Tensor | None = None,
    *,
    others: Others = "mean",
    negative: Negative = "abs",
    held_out: Tensor | None = None,
    random_networks: int = 1,
    seed: int = 0,
    memory: int | None = None,
    progress: bool = True,
) -> UnitScores:
    """UnitMem: 0 where all images fire a unit alike, 1 where a single one fires it.

    ``(mu_max - mu_others) / (mu_max + mu_others)``, with mu an image's activation averaged over the
    map and the augmentations, before the maximum is taken (section 5, equation 3). No labels, no
    second model. One pass; what is kept does not grow with the images. **It has no zero of its
    own**: noise scores high, and the more images the higher. So read it beside its null (the same
    images through random weights) and at one number of images.

    Departures from the released code: the model is in evaluation mode, so no batch norm couples
    images; mean as in the text's equation, the code's median with ``others="median"``.

    Parameters
    ----------
    study : Study
        Its labels are not used.
    layers : sequence of str, optional
        Layers with units, all but the output layer unless given.
    augment : callable, optional
        ``(inputs, generator) -> inputs``; without one, images pass once, as they are.
    augmentations : int
        The paper has 10.
    examples : int64 ``[n]``, optional
        Training images; all but the group ``test`` unless given.
    others : {"mean", "median"}
        Of the images that are not the unit's own.
    negative : {"abs", "refuse"}
        The ratio is for activations that are not negative. Of others (behind no ReLU) the absolute
        value of mu is taken, and the result says so; or they are refused.
    held_out : int64, optional
        Images that were not trained on, at least as many: the first n are scored, too.
    random_networks : int
        Networks of random weights for the null; 0 for none, and a third to a half of the time.
    seed : int
        Of augmentations and random weights.
    memory : int, optional
        Bytes for the median, which keeps images; 1 GiB unless given.
    progress : bool

    Returns
    -------
    UnitScores
        NaN where a unit is dead; ``owners`` is the image that fires it most.

    Raises
    ------
    ValueError
        Fewer than 2 images; fewer held-out images than images; negative activations, if refused.

    Examples
    --------
    >>> one_hot = torch.nn.Sequential(torch.nn.Linear(6, 6, bias=False), torch.nn.ReLU())
    >>> _ = torch.nn.init.eye_(one_hot[0].weight)
    >>> model = torch.nn.Sequential(one_hot, torch.nn.Linear(6, 3)).eval()
    >>> study = Study(model, torch.eye(6), torch.zeros(6), {"training": range(6)})
    >>> unit_mem(study).values, unit_mem(study).owners
    (array([1., 1., 1., 1., 1., 1.]), array([0, 1, 2, 3, 4, 5]))
    """
    chosen = training_examples(study) if examples is None else torch.as_tensor(examples)
    if len(chosen) < 2:
        raise ValueError(f"UnitMem compares images, and there is {len(chosen)}; give at least 2.")
    if others not in ("mean", "median") or negative not in ("abs", "refuse"):
        raise ValueError(
            f"others is 'mean' or 'median' and negative 'abs' or 'refuse', but got {others!r} and "
            f"{negative!r}."
        )
    if held_out is not None and len(held_out) < len(chosen):
        raise ValueError(
            f"there are {len(held_out)} held-out images for {len(chosen)}; UnitMem grows with "
            "their number, so give at least as many, or fewer examples."
        )

    def measured(one: Study, images: Tensor) -> tuple[UnitActivations, Peaks]:
        stream = UnitActivations(one, layers, augment, augmentations, images, seed=seed)
        return stream, peaks(stream, median=others == "median", memory=memory, progress=progress)

    stream, found = measured(study, chosen)
    if negative == "refuse":
        _refuse_negative(stream, found)
    beside = None
    if held_out is not None:
        beside = measured(study, torch.as_tensor(held_out)[: len(chosen)])[1].ratio.numpy()
    random = []
    for number in range(random_networks):
        model = random_network(study, chosen, seed + number)
        random.append(measured(replace(study, model=model), chosen)[1].ratio.numpy())
    return UnitScores(
        "UnitMem",
        f"UnitMem of {len(chosen):,} images, {_how(augment, augmentations)}" + _signed(found),
        found.ratio.numpy(),
        units=stream.units,
        higher="fires for fewer images, one at 1",
        source=f"{SOURCE}, section 5; the others' {others}",
        null=_layer_null(stream.layers, random) if random else None,
        owners=found.owner.numpy(),
        held_out=beside,
    )


def class_mem(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: Tensor | None = None,
    *,
    shuffles: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> UnitScores:
    """ClassMem: UnitMem's ratio of class means, on training images.

    A unit for one class has 1, but so has a unit for a single image (its class has a mean above 0,
    the others have none), and a unit for one of ten classes has a UnitMem of .82: read both (Wang
    et al. 2024, section 5.2). No augmentation, as in the released code, which averages over a list
    that it never empties; here each class has its own mean. Where activations can be negative,
    their absolute value is taken, and the result says so.

    Parameters
    ----------
    study : Study
        Its labels name the classes.
    layers, progress
        As for :func:`unit_mem`.
    examples : int64 ``[n]``, optional
        Training images; all but the group ``test`` unless given.
    shuffles : int
        Draws of the null, labels shuffled among the images; kept are as many tables
        ``[classes, units]``.
    seed : int
        Of the shuffling.

    Returns
    -------
    UnitScores
        ``owners`` is the class that fires a unit most.

    Raises
    ------
    ValueError
        Fewer than 2 images or classes.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(),
    ...                             torch.nn.Linear(2, 3)).eval()
    >>> _ = torch.nn.init.eye_(model[0].weight)
    >>> study = Study(model, torch.eye(2).repeat(3, 1), torch.tensor([0, 1] * 3), {"a": range(6)})
    >>> class_mem(study).values
    array([1., 1.])
    """
    chosen = training_examples(study) if examples is None else torch.as_tensor(examples)
    return _of_classes("ClassMem", study, layers, chosen, shuffles, seed, progress)


def class_selectivity(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: Tensor | None = None,
    *,
    shuffles: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> UnitScores:
    """Class selectivity: ClassMem's ratio on test images (Morcos et al. 2018, section 2.3).

    Parameters
    ----------
    study, layers, shuffles, seed, progress
        As for :func:`class_mem`.
    examples : int64 ``[n]``, optional
        Images that were not trained on; the group ``test`` unless given.

    Raises
    ------
    ValueError
        Fewer than 2 images or classes, or no examples and no group ``test``.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(),
    ...                             torch.nn.Linear(2, 3)).eval()
    >>> _ = torch.nn.init.ones_(model[0].weight)
    >>> study = Study(model, torch.eye(2), torch.tensor([0, 1]), {"test": range(2)})
    >>> class_selectivity(study).values
    array([0., 0.])
    """
    chosen = study.group("test") if examples is None else torch.as_tensor(examples)
    return _of_classes("class selectivity", study, layers, chosen, shuffles, seed, progress)


def training_examples(study: Study) -> Tensor:
    """All examples but the group ``test``, int64; all where that leaves none."""
    outside = ~study.groups.get("test", torch.zeros(len(study), dtype=torch.bool))
    return outside.nonzero()[:, 0] if bool(outside.any()) else torch.arange(len(study))


def _of_classes(
    name: str,
    study: Study,
    layers: Sequence[str] | None,
    examples: Tensor,
    shuffles: int,
    seed: int,
    progress: bool,
) -> UnitScores:
    if len(examples) < 2:
        raise ValueError(f"{name} compares classes, and there is {len(examples)} image; give more.")
    classes, numbered = study.labels[examples].unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{name} compares classes, and all {len(examples)} images are of class "
            f"{int(classes[0])}; give images of at least two."
        )
    stream = UnitActivations(study, layers, None, 1, examples)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(examples), generator=generator) for _ in range(shuffles)]
    tables = torch.stack([numbered, *(numbered[order] for order in orders)])
    found = class_peaks(stream, tables, progress=progress)
    nulls = np.stack([one.ratio.numpy() for one in found[1:]]) if shuffles else None
    owner = found[0].owner
    return UnitScores(
        name,
        f"{name} of {len(examples):,} images in {len(classes)} classes" + _signed(found[0]),
        found[0].ratio.numpy(),
        units=stream.units,
        higher="fires for fewer classes, one at 1",
        source=f"{SOURCE}, section 5.2" if name == "ClassMem" else "Morcos et al. 2018",
        null=None if nulls is None else Null(f"labels shuffled, {shuffles} draws", nulls),
        owners=torch.where(owner < 0, owner, classes[owner.clamp(min=0)]).numpy(),
    )


def _layer_null(layers: Sequence[Layer], random: Sequence[np.ndarray]) -> Null:
    """Units of a layer of random weights are all alike, so each has the layer's quantiles."""
    shares = (np.arange(_DRAWS) + 0.5) / _DRAWS
    columns, start = [], 0
    for layer in layers:
        values = np.concatenate([one[start : start + layer.units] for one in random])
        known = values[~np.isnan(values)]
        table = np.quantile(known, shares) if len(known) else np.full(_DRAWS, np.nan)
        columns.append(np.repeat(table[:, None], layer.units, 1))
        start += layer.units
    return Null(
        f"{_DRAWS} quantiles of the layer's units in {len(random)} network"
        f"{'s' * (len(random) > 1)} of random weights, on the same images, batch norm measured on "
        "them",
        np.concatenate(columns, 1),
    )


def _how(augment: Augment | None, augmentations: int) -> str:
    if augment is None:
        return "not augmented (1 copy each)"
    return f"mean of {augmentations} augmentation{'s' * (augmentations != 1)} each"


def _signed(found: Peaks) -> str:
    number = int(found.negative.sum())
    if not number:
        return ""
    return f"; the absolute value is taken, since {number} units can be negative"


def _refuse_negative(stream: UnitActivations, found: Peaks) -> None:
    if bool(found.negative.any()):
        unit: Unit = stream.units[int(found.negative.nonzero()[0])]
        raise ValueError(
            f"unit {unit} has negative activations, which UnitMem's ratio is not for; name layers "
            "behind a ReLU, or take absolute values with negative='abs'."
        )
