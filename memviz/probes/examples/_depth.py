"""Prediction depth: the layer from which an example's neighbours agree with its prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memviz.engine.record import Replay, Site
from memviz.engine.search import nearest
from memviz.progress import slow
from memviz.scores import Null, Scores
from memviz.study import Study, check_examples
from memviz.units import UnknownLayerError

from ._dynamics import UNREAD


def prediction_depth(
    study: Study,
    examples: Tensor | None = None,
    *,
    support: Tensor | None = None,
    layers: Sequence[str] | None = None,
    k: int = 30,
    features: int = 4096,
    null_draws: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """First layer from which all k-nearest-neighbour probes give the model's own prediction.

    At each depth (0: the input; 1 to L: the layers, in the order of the forward pass) an example is
    given the majority label of its k nearest support examples, by Euclidean distance of the
    activations; of a tie, the lowest label. An example is no neighbour of itself. L + 1 where even
    the last probe disagrees. Memorized examples are decided late.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        All unless given.
    support : int64 ``[m]``, optional
        Whose given labels vote; the same examples unless given.
    layers : sequence of str, optional
        All layers with units, unless given.
    k : int
    features : int
        A layer with more values an example is averaged over neighbouring positions until it has no
        more, so that one layer of all examples fits in memory.
    null_draws : int
        Permutations of the support's labels, the model and its predictions as they are; 0 for none.
    seed : int
    progress : bool

    Raises
    ------
    KeyError
        If a layer is unknown.
    ValueError
        If there are no k neighbours, or a layer has no activation of its own for each example.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), [0, 1, 2] * 2, {"test": range(6)})
    >>> prediction_depth(study, k=2).values.shape
    (6,)
    """
    chosen = check_examples(study, examples)
    voters = chosen if support is None else check_examples(study, support)
    if not 1 <= k < len(voters):
        raise ValueError(
            f"k is {k} and the support has {len(voters)} examples; there must be more than k, "
            "since an example is no neighbour of itself."
        )
    if len(voters.unique()) < len(voters):
        raise ValueError("the support names an example twice; give each index once.")
    both, where = torch.cat([chosen, voters]).unique(return_inverse=True)
    mine, theirs = where[: len(chosen)], where[len(chosen) :]
    replay = Replay(study, both, memory=0)
    predicted = study.task.predictions(replay.clean).cpu()[mine]
    names = _layers(replay, layers)
    ids = []
    for name in slow([None, *names], "prediction depth", progress=progress):
        rows = _values(replay, name, features)
        ids.append(_neighbours(rows, mine, theirs, k, progress))
    labels = study.labels[voters]
    depth = _depth(ids, labels, predicted)
    generator = torch.Generator().manual_seed(seed)
    permuted = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(null_draws)]
    null = [_depth(ids, other, predicted).double().numpy() for other in permuted]
    return Scores(
        name="prediction depth",
        measure=f"layers, 0 (input) to {len(names)} ({names[-1]}); {len(names) + 1} for none",
        values=depth.double().numpy(),
        examples=chosen.numpy(),
        source=f"after Baldock et al. 2021, k = {k}; {UNREAD}",
        null=Null("the labels of the support permuted", np.stack(null)) if null else None,
    )


def depth_of(probes: Tensor, predictions: Tensor) -> Tensor:
    """First depth from which all probes equal the prediction, int64 ``[n]``; D if none.

    Parameters
    ----------
    probes : int64 ``[D, n]``
        The probes' labels by depth.
    predictions : int64 ``[n]``
        The model's own.

    Examples
    --------
    >>> depth_of(torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 0]]), torch.tensor([1, 1, 1]))
    tensor([2, 0, 3])
    """
    agree = (probes == predictions).flip(0).long()
    return len(probes) - agree.cumprod(0).sum(0)


def _depth(ids: Sequence[Tensor], labels: Tensor, predicted: Tensor) -> Tensor:
    # The labels' own values don't matter, only which of them most neighbours have.
    classes, codes = labels.unique(return_inverse=True)
    votes = []
    for near in ids:
        counts = torch.zeros(len(near), len(classes), dtype=torch.int64)
        counts.scatter_add_(1, codes[near], torch.ones_like(near))
        votes.append(classes[counts.argmax(1)])
    return depth_of(torch.stack(votes), predicted)


def _neighbours(rows: Tensor, mine: Tensor, theirs: Tensor, k: int, progress: bool) -> Tensor:
    """Positions in the support of the k nearest others, ``[n, k]``."""
    found = nearest(rows[mine], rows[theirs], k + 1, measure="euclidean", progress=progress).ids
    other = theirs[found] != mine[:, None]
    # Where k + 1 others are nearer still, itself is not among them: the last one goes instead.
    other[other.all(1), -1] = False
    return found[other].view(len(mine), k)


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
    """One row an example: the input, or a layer's last activation, on the CPU."""
    rows = []
    for step in range(replay.steps):
        positions = replay.chunk(step)
        if name is None:
            inputs = replay.study.batch(replay.examples[positions])
            if not isinstance(inputs, Tensor):
                raise ValueError(
                    "prediction depth starts at the input, which must be one tensor; these inputs "
                    "are a dict."
                )
            value, site = inputs, Site(0, "output", 1)
        else:
            site = replay.located[name].unit_sites[-1]
            value = replay.capture(step, site)
        if len(value) != len(positions):
            raise ValueError(
                f"layer {name!r} has {len(value)} rows for {len(positions)} examples; leave it out "
                "of layers."
            )
        rows.append(_pooled(value.detach().float(), site.axis, features).cpu())
    return torch.cat(rows)


def _pooled(value: Tensor, axis: int, features: int) -> Tensor:
    """Flattened ``[n, at most features]``, by averages over neighbouring positions."""
    if value[0].numel() <= features or value.dim() == 2:
        return value.flatten(1)
    grid = value.movedim(axis, 1)
    places = grid.dim() - 2
    side = max(1, int((features / grid.shape[1]) ** (1 / places)))
    pool = getattr(F, f"adaptive_avg_pool{places}d")
    pooled: Tensor = pool(grid, [min(side, size) for size in grid.shape[2:]])
    return pooled.flatten(1)
