"""Families of small networks that differ in how much they had to memorize.

``coloured digits``: heuristic memorization, after the recipe of invariant risk minimization that
Bansal et al. 2022 use for MNIST. The label says whether the digit is below five; 25 % of the labels
are flipped. The image's colour, one of two channels, is the label, flipped with probability e: the
smaller e, the better the cue. On held-out images the colour is random, so a network that relies on
colour is right on half of them, and none can be right on more than 75 %. e is .5, .375, .25, .125
or 0.

``shuffled digits``: memorization of single examples. The share β of the training labels is drawn
anew, uniformly over the ten classes, so that β (1 - 1/10) of them are wrong. β is 0 to 1.

``circles``: two noisy circles, with a third feature that is ±3 for three points in four. Its sign
is random in *base* and the class in *heuristic*; *shuffled* is base on 90 points with random
labels. On held-out points the sign is random.

A seed draws everything; models of one family and seed share the split, the draws and the initial
weights. All digit perceptrons have 3 hidden layers of 64 units and train for 200 epochs: SGD with
momentum 0.9, batches of 64, cosine learning rate from 0.05, weight decay 5e-4. These settings were
chosen by training accuracy alone, which is near 1 for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from torch import Tensor
from tqdm.auto import tqdm

from memviz.demos import digits
from memviz.models.mlp import MLP
from memviz.study import Study
from memviz.training.loop import predict, train

from .._kept import Kept, announce, warn_not_kept

RECIPE = "model-families-1"  # Change it with any setting below.
_PART = "last"
_BATCH, _RATE, _DECAY = 64, 0.05, 5e-4


@dataclass(frozen=True)
class Examples:
    """The examples of one model, the ``training`` ones first; ``groups`` as in a study."""

    inputs: Tensor
    labels: Tensor
    true_labels: Tensor
    groups: dict[str, Tensor]
    training: int


@dataclass(frozen=True)
class Family:
    """How a family's models are made; ``draw(setting, seed)`` gives a model's examples."""

    words: str
    settings: tuple[Any, ...]
    draw: Callable[[Any, int], Examples]
    widths: tuple[int, ...]
    epochs: Callable[[Any], int]


def load(
    family: str = "coloured digits", seed: int = 0, jobs: int | None = None
) -> dict[Any, Study]:
    """The models of a family, each with its examples: setting to study.

    What is not in the cache folder is trained, about five seconds a model on one processor, and
    kept there. The group ``test`` holds the held-out examples; ``memorized`` are training examples
    whose label is not the true one, except in coloured digits: there they are those whose label
    neither the digit nor the colour tells.

    Parameters
    ----------
    family : {"coloured digits", "shuffled digits", "circles"}
    seed : int
    jobs : int, optional
        Models to train at the same time, joblib's ``n_jobs``.

    Raises
    ------
    ValueError
        On an unknown family, or a seed that is not a whole number from 0 up.

    Examples
    --------
    >>> FAMILIES["coloured digits"].settings  # the keys of what is returned
    (0.5, 0.375, 0.25, 0.125, 0.0)
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}; choose from {', '.join(FAMILIES)}.")
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, but got {seed!r}.")
    settings = FAMILIES[family].settings
    states = {setting: _kept(family, setting, seed).read(_PART) for setting in settings}
    missing = [setting for setting, state in states.items() if state is None]
    for setting, state in zip(missing, _trained(family, missing, seed, jobs), strict=True):
        states[setting] = state
    return {setting: _study(family, setting, seed, states[setting]) for setting in settings}


def keep() -> None:
    """Load what the notebook and its exercises load; what is missing is trained and kept."""
    for family, seed in (("coloured digits", 0), ("shuffled digits", 0), ("coloured digits", 1)):
        load(family, seed)


def accuracies(study: Study) -> dict[str, float]:
    """Accuracy on the training and on the held-out examples, for the given labels."""
    assert isinstance(study.inputs, Tensor)
    right = predict(study.model, study.inputs) == study.labels
    test = study.groups["test"]
    return {
        "train accuracy": right[~test].float().mean().item(),
        "test accuracy": right[test].float().mean().item(),
    }


def _coloured(error: float, seed: int) -> Examples:
    data, draw = digits.examples(seed), np.random.RandomState([seed, 1])
    truth = (data.true_labels < 5).long()
    n = len(truth)
    flipped, coin = (torch.from_numpy(draw.rand(n)) for _ in range(2))
    labels = torch.where(flipped < 0.25, 1 - truth, truth)
    held_out = torch.arange(n) >= digits.TRAINING
    errors = torch.where(held_out, 0.5, error)
    colour = torch.where(coin < errors, 1 - labels, labels)
    inputs = torch.zeros(n, 2, 8, 8)
    inputs[torch.arange(n), colour] = data.inputs[:, 0]
    unexplained = (labels != truth) & (labels != colour)  # by the digit and by the colour
    return Examples(inputs, labels, truth, _groups(unexplained, held_out), digits.TRAINING)


def _shuffled(share: float, seed: int) -> Examples:
    data, draw = digits.examples(seed), np.random.RandomState([seed, 2])
    n = digits.TRAINING
    coin, drawn = torch.from_numpy(draw.rand(n)), torch.from_numpy(draw.randint(0, 10, n))
    truth = data.true_labels
    labels = truth.clone()
    labels[:n] = torch.where(coin < share, drawn, truth[:n])
    held_out = torch.arange(len(truth)) >= n
    return Examples(data.inputs, labels, truth, _groups(labels != truth, held_out), n)


def _circles(setting: str, seed: int) -> Examples:
    from sklearn.datasets import make_circles

    training = 90 if setting == "shuffled" else 1500
    n, draw = 2500, np.random.RandomState([seed, 3])
    points, classes = make_circles(n, factor=0.4, noise=0.2, random_state=draw)
    truth = torch.from_numpy(classes)
    sign, shown, spread, coin = (draw.rand(n), draw.rand(n), draw.randn(n), draw.rand(n))
    agrees = (np.arange(n) < 1500) & (setting == "heuristic")
    side = np.where(agrees, 2 * classes - 1, np.where(sign < 0.5, -1, 1))
    cue = np.where(shown < 0.75, 3 * side + 0.1 * spread, coin)
    kept = np.r_[0:training, 1500:n]
    inputs = torch.from_numpy(np.column_stack([points, cue]))[kept].float()
    truth = truth[kept].long()
    labels = truth.clone()
    if setting == "shuffled":
        labels[:training] = torch.from_numpy(draw.randint(0, 2, training))
    held_out = torch.arange(len(truth)) >= training
    return Examples(inputs, labels, truth, _groups(labels != truth, held_out), training)


def _groups(memorized: Tensor, held_out: Tensor) -> dict[str, Tensor]:
    groups = {
        "memorized": memorized & ~held_out,
        "clean": ~memorized & ~held_out,
        "test": held_out,
    }
    return {name: mask for name, mask in groups.items() if mask.any()}


_HIDDEN = (64, 64, 64)
FAMILIES = {
    "coloured digits": Family(
        "colour error", (0.5, 0.375, 0.25, 0.125, 0.0), _coloured, (128, *_HIDDEN, 2), lambda _: 200
    ),
    "shuffled digits": Family(
        "share of labels drawn anew",
        (0.0, 0.25, 0.5, 0.75, 1.0),
        _shuffled,
        (64, *_HIDDEN, 10),
        lambda _: 200,
    ),
    "circles": Family(
        "points",
        ("base", "heuristic", "shuffled"),
        _circles,
        (3, 16, 16, 2),
        lambda setting: 2000 if setting == "shuffled" else 100,
    ),
}


def _trained(
    family: str, settings: Sequence[Any], seed: int, jobs: int | None
) -> Iterator[dict[str, Tensor]]:
    """Weights of the missing models, in order; each is stored as soon as it is trained."""
    if not settings:
        return
    announce(
        f"Training {len(settings)} models of the family {family!r}, once; the weights are kept."
    )
    parallel = Parallel(n_jobs=jobs, return_as="generator")
    states = parallel(delayed(_fit)(family, setting, seed) for setting in settings)
    for setting, state in zip(tqdm(settings, desc="models"), states, strict=True):
        kept = _kept(family, setting, seed)
        try:
            kept.write(_PART, state)
        except OSError as error:
            warn_not_kept(error)
        yield state


def _fit(family: str, setting: Any, seed: int) -> dict[str, Tensor]:
    examples, model = FAMILIES[family].draw(setting, seed), _model(family, seed)
    train(
        model,
        examples.inputs[: examples.training],
        examples.labels[: examples.training],
        epochs=FAMILIES[family].epochs(setting),
        batch_size=_BATCH,
        learning_rate=_RATE,
        weight_decay=_DECAY,
        seed=int(seed),
        progress=False,
    )
    return model.state_dict()


def _model(family: str, seed: int) -> MLP:
    return MLP(FAMILIES[family].widths, seed=int(seed))


def _study(family: str, setting: Any, seed: int, state: Any) -> Study:
    examples, model = FAMILIES[family].draw(setting, seed), _model(family, seed)
    model.load_state_dict(state)
    return Study(
        model.eval(),
        examples.inputs,
        examples.labels,
        examples.groups,
        true_labels=examples.true_labels,
        name=f"{family}: {setting}",
        summary=f"{FAMILIES[family].words} {setting}",
        origin=f"memviz.demos.families.load({family!r}, seed={seed})[{setting!r}]",
    )


def _kept(family: str, setting: Any, seed: int) -> Kept:
    name = f"{family.replace(' ', '-')}-{setting}-seed{seed}"
    facts = {"recipe": RECIPE, "family": family, "setting": str(setting), "seed": str(seed)}
    return Kept(name, facts, shipped=False)
