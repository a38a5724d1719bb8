"""UnitMem: how much a unit belongs to a single image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from memviz.engine.activations import UnitActivations
from memviz.scores import Null
from memviz.study import Study
from memviz.units import Layer, Unit

from .._scores import SOURCE, UnitScores, training_examples
from ._null import random_network
from ._peaks import Peaks, peaks, signed

_DRAWS = 200  # quantiles that stand for a layer's units in the networks of random weights

# The study's inputs, a tensor or a dict, and a generator to the same changed.
Augment = Callable[[Any, torch.Generator], Any]
Others = Literal["mean", "median"]
Negative = Literal["abs", "refuse"]


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
        f"UnitMem of {len(chosen):,} images, {_how(augment, augmentations)}" + signed(found),
        found.ratio.numpy(),
        units=stream.units,
        higher="fires for fewer images, one at 1",
        source=f"{SOURCE}, section 5; the others' {others}",
        null=_layer_null(stream.layers, random) if random else None,
        owners=found.owner.numpy(),
        held_out=beside,
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


def _refuse_negative(stream: UnitActivations, found: Peaks) -> None:
    if bool(found.negative.any()):
        unit: Unit = stream.units[int(found.negative.nonzero()[0])]
        raise ValueError(
            f"unit {unit} has negative activations, which UnitMem's ratio is not for; name layers "
            "behind a ReLU, or take absolute values with negative='abs'."
        )
