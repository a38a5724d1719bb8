"""Gradient accounting: what clean and noisy examples contribute to a layer's gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from memviz.checks import Count, CountOrZero, Seed, checked
from memviz.progress import slow
from memviz.statistics import generator_of
from memviz.study import Study, default_groups
from memviz.training.checkpoints import load_checkpoint
from memviz.training.epochs import seeded_epoch

from ._epoch_gradients import EpochGradients
from ._gradient_table import GradientAccounting
from ._layer_groups import LayersLike
from ._rewinder import check_epochs

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@checked
def gradient_accounting(
    study: Study,
    noisy: str | None = None,
    clean: str | None = None,
    layers: LayersLike | None = None,
    *,
    epochs: Sequence[int] | None = None,
    optimizer: MakeOptimizer | None = None,
    batch_size: Count = 512,
    null_draws: CountOrZero = 5,
    seed: Seed = 0,
    progress: bool = True,
) -> GradientAccounting:
    """Norms and cosines of the clean and the noisy examples' gradients, from a study's checkpoints.

    At each checkpoint a copy of the model, in train mode, sees the examples of both groups once, in
    shuffled batches. The clean and the noisy part of each batch add up to its gradient. Without an
    optimizer the weights stay those of the checkpoint, and batches are weighed by their size; with
    one they change, as in the epoch that followed, and each batch is a step. To account for a whole
    training as it runs, use ``EpochGradients``.

    Parameters
    ----------
    study : Study
        With checkpoints.
    noisy, clean : str, optional
        The study's first and second group by default.
    layers : mapping, optional
        As in ``layer_groups``.
    epochs : sequence of int, optional
        Checkpoints to use; all by default.
    optimizer : callable, optional
        Makes an optimizer for a model's parameters, for example
        ``lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)``.
    batch_size : int
        512 in the released code.
    null_draws, seed : int
        Number of random subsets of as many examples as are noisy, and the seed of these and of the
        batches. An epoch's batches depend on the seed and on the epoch alone.

    Raises
    ------
    ValueError
        If the study has no checkpoints, or none of a given epoch.

    Notes
    -----
    After Maini et al. (2023) and their released code, which divides each tensor's norm by the root
    of its size twice, once in each of two scripts; here it is done once.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> groups, kept = {"memorized": range(2), "clean": range(2, 6)}, {0: model.state_dict()}
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), groups, checkpoints=kept)
    >>> list(gradient_accounting(study, progress=False).by_layer.index)
    ['0', '2']
    """
    noisy, clean = default_groups(study, noisy, clean)
    chosen = torch.cat([study.group(noisy), study.group(clean)]).sort().values
    wanted = check_epochs(study, epochs)
    copy = replace(study, model=deepcopy(study.model))
    model = copy.model.train()
    mask = study.groups[noisy][chosen]
    counts = EpochGradients(
        model,
        mask,
        layers,
        task=study.task,
        by_example=optimizer is None,
        null_draws=null_draws,
        seed=seed,
    )
    for epoch in slow(wanted, "gradient accounting", progress=progress):
        load_checkpoint(model, study.checkpoints[epoch])
        step = None if optimizer is None else optimizer(model.parameters())
        # By seed and epoch: an epoch's batches must not depend on which others are asked for.
        order = torch.randperm(len(chosen), generator=generator_of(seed, epoch))
        draws = seeded_epoch(seed, epoch)
        with draws, draws:  # twice, as an interrupt can miss one exit
            for ids in order.split(batch_size):
                inputs, labels = copy.batch(chosen[ids]), study.labels[chosen[ids]]
                loss = counts(copy.call(inputs)(), labels.to(study.device), ids)
                if step is not None:
                    step.zero_grad()
                    loss.backward()
                    step.step()
        counts.end_epoch(epoch)
    return counts.result()
