"""UnitMem: how selective a unit is for a single image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from memviz.checks import CountOrZero, IndicesLike, Seed, checked, quoted
from memviz.engine.activations import UnitActivations
from memviz.scores import Null
from memviz.study import Study, check_examples
from memviz.training.random_network import random_network, without_initializer
from memviz.units import Layer, Unit

from .._scores import SOURCE, UnitScores, training_examples
from ._peaks import Others, Peaks, peaks, signed

_DRAWS = 200  # quantiles that represent a layer's units in the random networks

# Maps the study's inputs, a tensor or a dict, and a generator to augmented inputs.
Augment = Callable[[Any, torch.Generator], Any]
Negative = Literal["abs", "refuse"]


@checked
def unit_mem(
    study: Study,
    layers: Sequence[str] | None = None,
    augment: Augment | None = None,
    augmentations: int = 10,
    examples: IndicesLike | None = None,
    *,
    others: Others = "mean",
    negative: Negative = "abs",
    held_out: IndicesLike | None = None,
    random_networks: CountOrZero = 1,
    seed: Seed = 0,
    memory: int | None = None,
    progress: bool = True,
) -> UnitScores:
    """UnitMem: 0 if all images activate a unit equally, 1 if only a single image does.

    ``(mu_max - mu_others) / (mu_max + mu_others)``, with mu an image's activation averaged over the
    map and the augmentations, before the maximum is taken (section 5, equation 3). It needs no
    labels, no second model and one pass; memory does not grow with the images. **It has no natural
    zero**: noise scores high, and higher with more images. So compare it with its null (the same
    images through random weights), and only at equal numbers of images. Neither the order of the
    images nor the other layers change a value.

    Departures from the released code: the model is in eval mode, so batch norm does not couple
    images; the mean is that of the text's equation, the code's median is ``others="median"``.

    Parameters
    ----------
    study : Study
        Its labels are not used.
    layers : sequence of str, optional
        Layers with units; by default all except the output layer.
    augment : callable, optional
        ``(inputs, generator) -> inputs``; by default images are not augmented.
    augmentations : int
        Augmented copies per image; 10 in the paper.
    examples : int64 ``[n]``, optional
        Training images; by default all except the group ``test``.
    others : {"mean", "median"}
        How to average over the other images.
    negative : {"abs", "refuse"}
        The ratio is meant for non-negative activations. If a layer has negative ones (no ReLU),
        ``"abs"`` takes the absolute value of mu, and the measure says so; ``"refuse"`` raises.
    held_out : int64, optional
        Images that were not trained on, at least n of them; the first n in the study's order are
        scored as well.
    random_networks : int
        Random networks for the null; 0 for none, in a third to a half of the time.
    seed : int
        Seed of augmentations, random weights, and the draw of an owner where images tie.
    memory : int, optional
        Bytes for the median, which keeps activations of all images; a twelfth of what the process
        may take by default, at most 1 GiB.
    progress : bool

    Returns
    -------
    UnitScores
        NaN for a dead unit; ``owners`` is the image that activates a unit most.

    Raises
    ------
    ValueError
        If there are fewer than 2 images or fewer held-out images than images, an image is named
        twice or also held out, an activation is NaN or infinite, the forward pass is random, or an
        activation is negative and ``negative="refuse"``.

    Examples
    --------
    >>> one_hot = torch.nn.Sequential(torch.nn.Linear(6, 6, bias=False), torch.nn.ReLU())
    >>> _ = torch.nn.init.eye_(one_hot[0].weight)
    >>> model = torch.nn.Sequential(one_hot, torch.nn.Linear(6, 3)).eval()
    >>> study = Study(model, torch.eye(6), torch.zeros(6), {"training": range(6)})
    >>> unit_mem(study).values, unit_mem(study).owners
    (array([1., 1., 1., 1., 1., 1.]), array([0, 1, 2, 3, 4, 5]))
    """
    chosen = training_examples(study) if examples is None else check_examples(study, examples)
    chosen = chosen.sort().values  # sums and samples are then the same for any order
    if len(chosen) < 2:
        raise ValueError(f"UnitMem compares images; give at least 2, not {len(chosen)}.")
    if others not in ("mean", "median") or negative not in ("abs", "refuse"):
        raise ValueError(
            f"others is {quoted(others)} and negative {quoted(negative)}; use 'mean' or "
            "'median', and 'abs' or 'refuse'."
        )
    beside = None if held_out is None else _held_out(study, held_out, chosen)

    def measured(network: Study, images: Tensor) -> tuple[UnitActivations, Peaks]:
        stream = UnitActivations(network, layers, augment, augmentations, images, seed=seed)
        return stream, peaks(stream, median=others == "median", memory=memory, progress=progress)

    stream, unit_peaks = measured(study, chosen)
    if negative == "refuse":
        _refuse_negative(stream, unit_peaks)
    held_out_values = None
    if beside is not None:
        held_out_values = measured(study, beside)[1].ratio.numpy()
    random_values = []
    for draw in range(random_networks):
        model = random_network(study, chosen, seed + draw)
        try:
            random_peaks = measured(replace(study, model=model), chosen)[1]
        except ValueError as error:
            raise ValueError(
                f"a random network of the null can't be measured: {error} Leave the null out with "
                "random_networks=0."
            ) from error
        random_values.append(random_peaks.ratio.numpy())
    return UnitScores(
        "UnitMem",
        f"UnitMem of {len(chosen):,} images, {_how(augment, augmentations)}" + signed(unit_peaks),
        unit_peaks.ratio.numpy(),
        units=stream.units,
        higher="fires for fewer images, one at 1",
        source=f"{SOURCE}, section 5; the others' {others}",
        null=_layer_null(study, stream.layers, random_values) if random_values else None,
        owners=unit_peaks.owner.numpy(),
        held_out=held_out_values,
    )


def _held_out(study: Study, held_out: IndicesLike, chosen: Tensor) -> Tensor:
    """As many held-out images as there are training images, the first in the study's order."""
    given: Tensor = check_examples(study, held_out, "held_out").unique()
    if len(given) < len(chosen):
        raise ValueError(
            f"there are {len(given)} held-out images for {len(chosen)} examples; UnitMem grows "
            "with the number of images, so give at least as many, or fewer examples."
        )
    both = given[torch.isin(given, chosen)]
    if len(both):
        raise ValueError(
            f"image {int(both[0])} is scored and held out; name it in examples or in held_out."
        )
    return given[: len(chosen)]


def _layer_null(study: Study, layers: Sequence[Layer], random: Sequence[np.ndarray]) -> Null:
    """The units of a random layer are exchangeable, so each gets the quantiles of its layer."""
    shares = (np.arange(_DRAWS) + 0.5) / _DRAWS
    columns, start = [], 0
    for layer in layers:
        values = np.concatenate([draw[start : start + layer.units] for draw in random])
        known = values[~np.isnan(values)]
        table = np.quantile(known, shares) if len(known) else np.full(_DRAWS, np.nan)
        columns.append(np.repeat(table[:, None], layer.units, 1))
        start += layer.units
    words = (
        f"{_DRAWS} quantiles of the layer's units in {len(random)} network"
        f"{'s' * (len(random) > 1)} with random weights, on the same images, batch norm measured "
        "on them"
    )
    if names := without_initializer(study.model):
        words += (
            f"; an estimate, since {len(names)} module{'s' * (len(names) > 1)} ({names[0]!r}"
            f"{', ...' * (len(names) > 1)}) cannot be reinitialized: weights drawn with the mean "
            "and spread of the trained ones"
        )
    return Null(words, np.concatenate(columns, 1))


def _how(augment: Augment | None, augmentations: int) -> str:
    if augment is None:
        return "not augmented (1 copy each)"
    return f"mean of {augmentations} augmentation{'s' * (augmentations != 1)} each"


def _refuse_negative(stream: UnitActivations, unit_peaks: Peaks) -> None:
    if bool(unit_peaks.negative.any()):
        unit: Unit = stream.units[int(unit_peaks.negative.nonzero()[0])]
        raise ValueError(
            f"unit {unit} has negative activations, for which UnitMem is not defined; choose "
            "layers followed by a ReLU, or take absolute values with negative='abs'."
        )
