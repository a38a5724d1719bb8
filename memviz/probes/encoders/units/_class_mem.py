"""ClassMem and class selectivity: how selective a unit is for a single class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memviz.checks import CountOrZero, IndicesLike, Seed, checked, quoted
from memviz.engine.activations import UnitActivations, tie_order
from memviz.scores import Null
from memviz.study import Study, check_classes, check_examples

from .._scores import SOURCE, UnitScores, training_examples
from ._peaks import Others, class_peaks, signed


@checked
def class_mem(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: IndicesLike | None = None,
    *,
    others: Others = "mean",
    shuffles: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> UnitScores:
    """ClassMem: UnitMem's ratio of class means, on training images.

    A unit that fires for one class scores 1, but so does a unit that fires for a single image (only
    its class has a mean above 0), and a unit for one of ten classes has a UnitMem of .82: read both
    (Wang et al. 2024, section 5.2). No augmentation, as in the released code, which averages over a
    list that it never empties; here each class has its own mean. If activations can be negative,
    their absolute value is taken, and the measure says so.

    Parameters
    ----------
    study : Study
        Its labels name the classes.
    layers, progress
        As for :func:`memviz.probes.encoders.units.unit_mem`.
    examples : int64 ``[n]``, optional
        Training images; by default all except the group ``test``. Their order does not matter.
    others : {"mean", "median"}
        How to average over the other classes.
    shuffles : int
        Draws of the null, in which labels are shuffled among the images. Each draw holds a table
        ``[classes, units]`` in memory.
    seed : int
        Seed of the shuffling, and of the draw of an owner where classes tie.

    Returns
    -------
    UnitScores
        ``owners`` is the class that activates a unit most.

    Raises
    ------
    ValueError
        If the labels are not classes, there are fewer than 2 images or classes, an image is named
        twice, an activation is NaN or infinite, or the forward pass is random.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(),
    ...                             torch.nn.Linear(2, 3)).eval()
    >>> _ = torch.nn.init.eye_(model[0].weight)
    >>> study = Study(model, torch.eye(2).repeat(3, 1), torch.tensor([0, 1] * 3), {"a": range(6)})
    >>> class_mem(study).values
    array([1., 1.])
    """
    check_classes(study, "ClassMem scores")
    chosen = training_examples(study) if examples is None else check_examples(study, examples)
    return _of_classes("ClassMem", study, layers, chosen, others, shuffles, seed, progress)


@checked
def class_selectivity(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: IndicesLike | None = None,
    *,
    others: Others = "mean",
    shuffles: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> UnitScores:
    """Class selectivity: ClassMem's ratio on test images (Morcos et al. 2018, section 2.3).

    Parameters
    ----------
    study, layers, others, shuffles, seed, progress
        As for :func:`class_mem`.
    examples : int64 ``[n]``, optional
        Images that were not trained on; the group ``test`` by default.

    Raises
    ------
    ValueError
        If the labels are not classes, there are fewer than 2 images or classes, or neither examples
        nor a group ``test``.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(),
    ...                             torch.nn.Linear(2, 3)).eval()
    >>> _ = torch.nn.init.ones_(model[0].weight)
    >>> study = Study(model, torch.eye(2), torch.tensor([0, 1]), {"test": range(2)})
    >>> class_selectivity(study).values
    array([0., 0.])
    """
    check_classes(study, "class selectivity scores")
    chosen = study.group("test") if examples is None else check_examples(study, examples)
    return _of_classes("class selectivity", study, layers, chosen, others, shuffles, seed, progress)


def _of_classes(
    name: str,
    study: Study,
    layers: Sequence[str] | None,
    examples: Tensor,
    others: Others,
    shuffles: int,
    seed: int,
    progress: bool,
) -> UnitScores:
    if others not in ("mean", "median"):
        raise ValueError(f"others is {quoted(others)}; use 'mean' or 'median'.")
    examples = examples.sort().values  # the shuffles are then the same for any order
    if len(examples) < 2:
        raise ValueError(f"{name} compares classes; give at least 2 images, not {len(examples)}.")
    classes, numbered = study.labels[examples].unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{name} compares classes, but all {len(examples)} images are of class "
            f"{int(classes[0])}; give images of at least two classes."
        )
    stream = UnitActivations(study, layers, None, 1, examples)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(examples), generator=generator) for _ in range(shuffles)]
    tables = torch.stack([numbered, *(numbered[order] for order in orders)])
    known = study.labels.unique()  # a class keeps its place whichever others are asked
    order = tie_order(len(known), seed)[torch.isin(known, classes)].argsort().argsort()
    actual, *shuffled = class_peaks(stream, tables, order, others=others, progress=progress)
    nulls = np.stack([draw.ratio.numpy() for draw in shuffled]) if shuffles else None
    owner = actual.owner
    return UnitScores(
        name,
        f"{name} of {len(examples):,} images in {len(classes)} classes" + signed(actual),
        actual.ratio.numpy(),
        units=stream.units,
        higher="fires for fewer classes, one at 1",
        source=(f"{SOURCE}, section 5.2" if name == "ClassMem" else "Morcos et al. 2018")
        + f"; the others' {others}" * (others == "median"),
        null=None if nulls is None else Null(f"labels shuffled, {shuffles} draws", nulls),
        owners=torch.where(owner < 0, owner, classes[owner.clamp(min=0)]).numpy(),
    )
