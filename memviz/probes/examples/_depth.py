"""Prediction depth: the layer from which an example's neighbours agree with its prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memviz.checks import IndicesLike, Seed, check_shapes, checked
from memviz.engine.record import Replay, Site
from memviz.engine.search import nearest
from memviz.progress import slow
from memviz.scores import Null, Scores
from memviz.statistics import generator_of
from memviz.study import Study, check_classes, check_examples
from memviz.training.subsets import training_pool
from memviz.units import UnknownLayerError

from ._dynamics import FORMULA


@checked
def prediction_depth(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    support: IndicesLike | None = None,
    layers: Sequence[str] | None = None,
    k: int = 30,
    features: int = 4096,
    null_draws: int = 5,
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """First layer from which all k-nearest-neighbour probes agree with the model's prediction.

    At each depth (0: the input; 1 to L: the layers, in the order of the forward pass) an example
    gets the majority label of its k nearest support examples, by Euclidean distance of the
    activations; of labels that tie, that of the nearest, and of examples at one distance, a drawn
    one. An example is not its own neighbour. The depth is L + 1 if even the last probe disagrees.
    Memorized examples are decided late.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        Each once; all by default.
    support : int64 ``[m]``, optional
        Examples whose given labels vote; by default all groups but ``test``, whichever examples are
        asked for.
    layers : sequence of str, optional
        By default all layers with units.
    k : int
    features : int
        Most values per example; larger layers are average-pooled over positions, so that one layer
        of all examples fits in memory.
    null_draws : int
        Permutations of the support's labels, with model and predictions unchanged; 0 for none.
    seed : int
        Of the order of examples at one distance, and of the null.
    progress : bool

    Returns
    -------
    Scores
        Over examples.

    Raises
    ------
    KeyError
        If the study has no such layer.
    ValueError
        If the labels are not classes, the support has no more than k examples, an example is given
        twice, or a layer has no separate activation for each example.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), [0, 1, 2] * 2, {"test": range(6)})
    >>> prediction_depth(study, k=2).values.shape
    (6,)
    """
    check_classes(study, "nearest-neighbour probes")
    chosen = check_examples(study, examples)
    voters = _all_but_test(study) if support is None else check_examples(study, support, "support")
    if not 1 <= k < len(voters):
        raise ValueError(
            f"k is {k} and the support has {len(voters)} examples; give more than k, since an "
            "example is not its own neighbour."
        )
    if len(voters.unique()) < len(voters):
        raise ValueError("the support contains an example twice; give each index once.")
    if len(chosen.unique()) < len(chosen):
        raise ValueError("examples names an example twice; give each once.")
    # Neighbours at one distance come in the order of the rows.
    drawn = torch.randperm(len(study), generator=generator_of(seed))
    voters = voters[drawn[voters].argsort()]
    both, rows_of = torch.cat([chosen, voters]).unique(return_inverse=True)
    example_rows, voter_rows = rows_of[: len(chosen)], rows_of[len(chosen) :]
    replay = Replay(study, both, memory=0)
    predicted = study.task.predictions(replay.clean).cpu()[example_rows]
    names = _layers(replay, layers)
    ids = []
    for name in slow([None, *names], "prediction depth", progress=progress):
        rows = _values(replay, name, features)
        ids.append(_neighbours(rows, example_rows, voter_rows, k, progress))
    labels = study.labels[voters]
    depth = _depth(ids, labels, predicted)
    generator = torch.Generator().manual_seed(seed)
    permuted = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(null_draws)]
    null = [_depth(ids, shuffled, predicted).double().numpy() for shuffled in permuted]
    return Scores(
        name="prediction depth",
        measure=f"layers, 0 (input) to {len(names)} ({names[-1]}); {len(names) + 1} for none",
        values=depth.double().numpy(),
        examples=chosen.numpy(),
        source=f"after Baldock et al. 2021, k = {k}; {FORMULA}",
        null=Null("the labels of the support permuted", np.stack(null)) if null else None,
    )


@checked
def depth_of(probes: Tensor, predictions: Tensor) -> Tensor:
    """First depth from which all probes equal the prediction, int64 ``[n]``; D if there is none.

    Parameters
    ----------
    probes : int64 ``[D, n]``
        Labels predicted by the probe at each depth.
    predictions : int64 ``[n]``
        Labels predicted by the model.

    Examples
    --------
    >>> depth_of(torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 0]]), torch.tensor([1, 1, 1]))
    tensor([2, 0, 3])
    """
    check_shapes(2, probes=probes)
    if not len(probes):
        raise ValueError("probes has no rows; give the labels of one probe at least.")
    check_shapes(1, first_probe=probes[0], predictions=predictions)
    agree = (probes == predictions).flip(0).long()
    return len(probes) - agree.cumprod(0).sum(0)


def _all_but_test(study: Study) -> Tensor:
    return torch.arange(len(study)) if set(study.groups) <= {"test"} else training_pool(study, None)


def _depth(ids: Sequence[Tensor], labels: Tensor, predicted: Tensor) -> Tensor:
    # Labels need not be 0 to C-1, so votes are counted by their codes.
    classes, codes = labels.unique(return_inverse=True)
    votes = []
    for near in ids:
        counts = torch.zeros(len(near), len(classes), dtype=torch.int64)
        counts.scatter_add_(1, codes[near], torch.ones_like(near))
        # Nearest first: of the labels that tie, the first in the row.
        agree = counts.gather(1, codes[near]) == counts.amax(1, keepdim=True)
        first = near.gather(1, agree.long().argmax(1, keepdim=True))[:, 0]
        votes.append(labels[first])
    return depth_of(torch.stack(votes), predicted)


def _neighbours(
    rows: Tensor, example_rows: Tensor, voter_rows: Tensor, k: int, progress: bool
) -> Tensor:
    """Positions in the support of the k nearest others, ``[n, k]``."""
    nearest_rows = nearest(
        rows[example_rows], rows[voter_rows], k + 1, measure="euclidean", progress=progress
    ).ids
    is_other = voter_rows[nearest_rows] != example_rows[:, None]
    # Where the example itself is not among the k + 1 nearest, the farthest is dropped instead.
    is_other[is_other.all(1), -1] = False
    return nearest_rows[is_other].view(len(example_rows), k)


def _layers(replay: Replay, names: Sequence[str] | None) -> list[str]:
    known = replay.located
    if names is None:
        return list(known)
    for name in names:
        if name not in known:
            raise UnknownLayerError(name, known)
    if not names:
        raise ValueError("layers is empty; name at least one.")
    return [name for name in known if name in set(names)]


def _values(replay: Replay, name: str | None, features: int) -> Tensor:
    """One row per example: the input, or a layer's last activation, on the CPU."""
    rows = []
    for step in range(replay.steps):
        positions = replay.chunk(step)
        if name is None:
            inputs = replay.study.batch(replay.examples[positions])
            if not isinstance(inputs, Tensor):
                raise ValueError(
                    "prediction depth starts at the input, which must be a single tensor; these "
                    "inputs are a dict."
                )
            value, site = inputs, Site(0, "output", 1)
        else:
            located = replay.place(step, name)
            if located is None:
                raise ValueError(
                    f"some examples do not reach layer {name!r}; leave it out of layers."
                )
            site = located.unit_sites[-1]
            value = replay.capture(step, site)
        if len(value) != len(positions):
            raise ValueError(
                f"layer {name!r} has {len(value)} rows for {len(positions)} examples; leave it out "
                "of layers."
            )
        dtype = torch.promote_types(value.dtype, torch.float32)
        rows.append(_pooled(value.detach().to(dtype), site.axis, features).cpu())
    return torch.cat(rows)


def _pooled(value: Tensor, axis: int, features: int) -> Tensor:
    """Flattened to ``[n, at most features]``, after average pooling over positions if needed."""
    if value[0].numel() <= features or value.dim() == 2:
        return value.flatten(1)
    grid = value.movedim(axis, 1)
    places = grid.dim() - 2
    side = max(1, int((features / grid.shape[1]) ** (1 / places)))
    pool = getattr(F, f"adaptive_avg_pool{places}d")
    pooled: Tensor = pool(grid, [min(side, size) for size in grid.shape[2:]])
    return pooled.flatten(1)
