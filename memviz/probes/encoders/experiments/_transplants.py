"""Layer replacement, and fine-tuning of chosen layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memviz.checks import Count, Positive, Seed, checked, quoted
from memviz.progress import slow
from memviz.study import check_ready
from memviz.tasks.task import Inputs
from memviz.training.loaders import labels_for
from memviz.training.loop import predict
from memviz.training.self_supervised import features, seeded

from .._modules import check_unshared, layer_modules

if TYPE_CHECKING:
    import pandas as pd

_MOST_CLASSES = 10**6


@checked
def replace_layers(
    model: nn.Module, donor: nn.Module, layers: Sequence[str], inputs: Inputs
) -> nn.Module:
    """A copy of a model in which some layers have a donor's weights.

    The batch norm that follows a layer is replaced with it, weights and statistics: it was trained
    for the output of that layer.

    Parameters
    ----------
    model, donor : nn.Module
        Of the same architecture, in eval mode; both remain unchanged.
    layers : sequence of str
        Convolutions, linear layers or attentions.
    inputs : Tensor or dict of Tensors
        Two examples, to trace which norm belongs to a layer.

    Raises
    ------
    KeyError
        If a model has no such layer.
    ValueError
        If the donor's layer has another shape, or a layer shares weights with one that stays.

    Examples
    --------
    >>> model, donor = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    ...                 for _ in range(2))
    >>> mixed = replace_layers(model, donor, ["2"], torch.ones(2, 4))
    >>> torch.equal(mixed[2].weight, donor[2].weight), torch.equal(mixed[0].weight, model[0].weight)
    (True, True)
    """
    check_ready(model)
    check_ready(donor)
    copied = deepcopy(model)
    modules = {layer: layer_modules(copied, inputs, layer) for layer in layers}
    check_unshared(copied, [module for group in modules.values() for module in group])
    for layer, group in modules.items():
        for module, source in zip(group, layer_modules(donor, inputs, layer), strict=True):
            try:
                module.load_state_dict(source.state_dict())
            except RuntimeError as error:
                raise ValueError(
                    f"layer {quoted(layer)} of the donor has another shape; give a donor of "
                    "the same architecture."
                ) from error
    return copied


@checked
def layer_replacement(
    model: nn.Module,
    donor: nn.Module,
    choices: Mapping[str, Sequence[str]],
    accuracies: Mapping[str, Callable[[nn.Module], float]],
    inputs: Inputs,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Accuracies with each choice of layers taken from a donor (Wang et al. 2024, section 4.4).

    Parameters
    ----------
    model, donor, inputs
        As for :func:`replace_layers`.
    choices : mapping of name to layers
        For example ``{"most Delta": ["conv4"], "least Delta": ["conv2"]}``.
    accuracies : mapping of name to ``model -> float``

    Returns
    -------
    DataFrame
        One row per choice (``none`` first), one column per accuracy.

    Examples
    --------
    >>> model, donor = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    ...                 for _ in range(2))
    >>> table = layer_replacement(model, donor, {"last": ["2"]}, {"zero": lambda m: 0.0},
    ...                           torch.ones(2, 4))
    >>> table.index.tolist()
    ['none', 'last']
    """
    import pandas as pd

    rows = {"none": {name: accuracy(model) for name, accuracy in accuracies.items()}}
    for choice, layers in slow(list(choices.items()), "layer replacement", progress=progress):
        mixed = replace_layers(model, donor, layers, inputs)
        rows[choice] = {name: accuracy(mixed) for name, accuracy in accuracies.items()}
    return pd.DataFrame(rows).T


@checked
def fine_tune_layers(
    encoder: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    labels: Tensor,
    *,
    epochs: Count = 50,
    batch_size: Count = 64,
    learning_rate: Positive = 1e-3,
    seed: Seed = 0,
) -> nn.Module:
    """Train a new linear head on a copy of an encoder, together with the chosen layers.

    Everything else is frozen, including all batch-norm statistics; with no layers this is linear
    probing. Trained with Adam on cross-entropy; the seed sets head and order.

    Parameters
    ----------
    encoder : nn.Module
        In eval mode; remains unchanged.
    layers : sequence of str
        Layers to tune, each with the norm that follows it.
    images, labels : float ``[n, ...]`` and int64 ``[n]``

    Returns
    -------
    nn.Sequential
        Encoder, flattening and head, in eval mode.

    Raises
    ------
    KeyError
        If the encoder has no such layer.
    ValueError
        If a chosen layer shares weights with one that is frozen, or labels are not one class, 0 or
        above, per image.

    Examples
    --------
    >>> encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval()
    >>> tuned = fine_tune_layers(encoder, ["0"], torch.eye(4), torch.arange(4) % 2, epochs=2)
    >>> tuned(torch.eye(4)).shape, torch.equal(tuned[0][0].weight, encoder[0].weight)
    (torch.Size([4, 2]), False)
    """
    check_ready(encoder)
    labels = labels_for(images, labels).to(images.device)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= _MOST_CLASSES:
        raise ValueError(
            f"labels hold {lowest if lowest < 0 else highest}; number the classes from 0, below "
            f"{_MOST_CLASSES:,}."
        )
    copied = deepcopy(encoder).requires_grad_(False)
    tuned = [module for layer in layers for module in layer_modules(copied, images[:2], layer)]
    check_unshared(copied, tuned)
    for module in tuned:
        module.requires_grad_(True)
    width, classes = features(copied, images[:2]).shape[1], highest + 1
    head = seeded(seed, lambda: nn.Linear(width, classes)).to(images.device)
    model = nn.Sequential(copied, nn.Flatten(), head).eval()
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(free, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(batch_size):
            loss = cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for parameter, before in zip(copied.parameters(), encoder.parameters(), strict=True):
        parameter.requires_grad_(before.requires_grad)
    return model


@checked
def layer_fine_tuning(
    encoder: nn.Module,
    choices: Mapping[str, Sequence[str]],
    training: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    epochs: Count = 50,
    seeds: Sequence[Seed] = (0,),
    progress: bool = True,
) -> pd.DataFrame:
    """Test accuracy with each choice of layers tuned along with a new head (section 4.4).

    Parameters
    ----------
    encoder, epochs
        As for :func:`fine_tune_layers`.
    choices : mapping of name to layers
    training, test : tuple of images and labels
    seeds : sequence of int
        Seeds of head and order.

    Returns
    -------
    DataFrame
        One row per choice (``head alone`` first): mean, least and largest accuracy over the seeds.

    Raises
    ------
    KeyError, ValueError
        As for :func:`fine_tune_layers`, or if there is no seed.

    Examples
    --------
    >>> encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval()
    >>> data = torch.eye(4), torch.arange(4) % 2
    >>> layer_fine_tuning(encoder, {"all": ["0"]}, data, data, epochs=1).index.tolist()
    ['head alone', 'all']
    """
    import pandas as pd

    if not len(seeds):
        raise ValueError("seeds is empty; give at least one.")
    labels_for(*test)
    rows = {}
    all_choices = list({"head alone": (), **choices}.items())
    for choice, layers in slow(all_choices, "fine-tuning", progress=progress):
        accuracies = []
        for seed in seeds:
            model = fine_tune_layers(encoder, layers, *training, epochs=epochs, seed=seed)
            accuracies.append(float((predict(model, test[0]) == test[1]).double().mean()))
        rows[choice] = {
            "accuracy": sum(accuracies) / len(accuracies),
            "least": min(accuracies),
            "largest": max(accuracies),
        }
    return pd.DataFrame(rows).T
