"""Layer retraining: which memorized labels return when a layer is retrained on clean examples."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from memviz.checks import checked, quoted
from memviz.progress import slow
from memviz.study import Study, default_groups
from memviz.training.epochs import seeded_epoch

from ._layer_groups import LayerGroup, LayersLike, layer_groups, state_of
from ._rewinder import Rewinder, state_at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOURCE = "Maini et al. 2023 (arXiv:2307.09542), layer retraining"
EVERYTHING = "(everything)"
_PEAK = 0.4  # of the training, where the triangular learning rate is highest


@dataclass(frozen=True)
class RetrainingSettings:
    """How a layer is retrained; the defaults are those of the released code.

    Attributes
    ----------
    learning_rate : float
        Peak, at 40 % of the epochs; it rises linearly from 0 and falls linearly to 0.
    epochs : int
        Most epochs.
    patience : int
        Stop after this many consecutive epochs with every training example right.
    batch_size, momentum, weight_decay, seed
        Of SGD; the seed sets the order and what the model itself draws, as dropout does.
    frozen_statistics : bool
        Whether the batch norms of other layers keep and use their running statistics (eval mode);
        otherwise they use and track those of the batches.
    """

    learning_rate: float = 0.01
    epochs: int = 20
    patience: int = 3
    batch_size: int = 512
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0
    frozen_statistics: bool = True

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch_size) < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"epochs, patience and batch_size must be at least 1 and learning_rate above 0; "
                f"got {self}."
            )


@dataclass(frozen=True, eq=False)
class Retraining:
    """Accuracies while single layers are retrained, with the rest of the network frozen.

    Attributes
    ----------
    accuracy : dict of layer to float64 ``[epochs + 1, G]``
        Row 0 is right after rewinding. Under ``"(everything)"`` all layers were rewound and
        retrained: the null, what clean examples alone teach.
    groups : tuple of str
        ``G`` of them.
    models : dict of layer to nn.Module
        The retrained copies.
    epoch : int
        The epoch that layers were rewound to.
    trained_on : str
        The group that layers were retrained on.
    """

    accuracy: dict[str, np.ndarray]
    groups: tuple[str, ...]
    models: dict[str, nn.Module]
    epoch: int
    trained_on: str

    @property
    def frame(self) -> pd.DataFrame:
        """One row per layer, epoch and group."""
        import pandas as pd

        parts = []
        for layer, table in self.accuracy.items():
            part = pd.DataFrame(table, columns=list(self.groups))
            part.insert(0, "epoch", range(len(table)))
            part.insert(0, "layer", layer)
            parts.append(part)
        frame = pd.concat(parts).melt(["layer", "epoch"], var_name="group", value_name="accuracy")
        frame.attrs = {"name": "layer retraining", "source": SOURCE}
        return frame

    @property
    def by_layer(self) -> pd.DataFrame:
        """One row per layer: accuracy of each group right after rewinding and at the end."""
        import pandas as pd

        rows = {}
        for layer, table in self.accuracy.items():
            row: dict[str, float] = {"epochs": len(table) - 1}
            for g, name in enumerate(self.groups):
                row |= {f"{name} rewound": table[0, g], f"{name} retrained": table[-1, g]}
            rows[layer] = row
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")

    def plot(self) -> Figure:
        """Accuracy of each group by layer, right after rewinding and at the end."""
        from .figures import retraining

        return retraining(self)

    def __repr__(self) -> str:
        return (
            f"layer retraining from epoch {self.epoch} on {self.trained_on} examples alone, with "
            f"the rest frozen:\n{self.by_layer.round(3).to_string()}\nsource: {SOURCE}"
        )


@checked
def layer_retraining(
    study: Study,
    layers: LayersLike | None = None,
    *,
    only: Iterable[str] | None = None,
    group: str | None = None,
    epoch: int = 0,
    settings: RetrainingSettings | None = None,
    progress: bool = True,
) -> Retraining:
    """Rewind one layer at a time to its initialization, and retrain it on clean examples.

    If the wrong labels are predicted again although the layer never saw them since, the layer was
    redundant for memorizing them: other layers hold them, too.

    Everything but the layer is frozen, in a copy of the model. (In the released code it is not,
    since ``requires_grad`` is set on copies of the weights; and it trains on the *noisy* examples,
    since the mask is inverted twice.)

    Parameters
    ----------
    study : Study
        With a checkpoint of ``epoch``.
    layers : mapping, optional
        As in ``layer_groups``.
    only : iterable of str, optional
        Layer groups to retrain; by default all and the null, which is named ``"(everything)"``.
    group : str, optional
        Group to train on; by default the study's second (usually clean).
    epoch : int
        The checkpoint to rewind to.
    settings : RetrainingSettings, optional
        By default those of the released code.

    Raises
    ------
    ValueError
        If a layer group, the group or the checkpoint is unknown.
    FloatingPointError
        If the loss becomes NaN or infinite.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> groups, kept = {"memorized": range(2), "clean": range(2, 6)}, {0: model.state_dict()}
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), groups, checkpoints=kept)
    >>> retraining = layer_retraining(study, only=["2"], progress=False)
    >>> list(retraining.by_layer.index), retraining.groups
    (['2'], ('memorized', 'clean'))
    """
    settings = RetrainingSettings() if settings is None else settings
    trained_on = default_groups(study, None, None)[1] if group is None else group
    study.group(trained_on)
    groups = {layer.name: layer for layer in layer_groups(study.model, layers)}
    groups[EVERYTHING] = _everything(study.model)
    chosen = list(groups) if only is None else list(only)
    unknown = next((name for name in chosen if name not in groups), None)
    if unknown is not None:
        raise ValueError(
            f"there is no layer group {quoted(unknown)}; choose from {', '.join(groups)}."
        )
    if epoch not in study.checkpoints:
        raise ValueError(
            f"there is no checkpoint of epoch {epoch}; this study has "
            f"{', '.join(map(str, study.checkpoints)) or 'none'}."
        )
    names = tuple(study.groups)
    accuracy, models = {}, {}
    for name in slow(chosen, "layer retraining", progress=progress):
        model, rows = _retrain(study, groups[name], trained_on, epoch, settings)
        accuracy[name] = np.array([[row[group] for group in names] for row in rows])
        models[name] = model
    return Retraining(accuracy, names, models, epoch, trained_on)


def _retrain(
    study: Study, layer: LayerGroup, group: str, epoch: int, settings: RetrainingSettings
) -> tuple[nn.Module, list[dict[str, float]]]:
    copy = replace(study, model=deepcopy(study.model))
    model, reader = copy.model, Rewinder(copy)
    parameters = _rewound(copy, layer, epoch)
    optimizer = torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    members = copy.group(group)
    steps = settings.epochs * -(-len(members) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: float(np.interp((step + 1) / (steps + 1), [0, _PEAK, 1], [0, 1, 0]))
    )
    generator = torch.Generator().manual_seed(settings.seed)
    rows, in_a_row = [reader.accuracies_of(state_of(model))], 0
    for epoch in range(settings.epochs):
        _train_mode(model, layer, settings)
        order = members[torch.randperm(len(members), generator=generator)]
        with seeded_epoch(settings.seed, epoch):
            for examples in order.split(settings.batch_size):
                outputs = copy.task.outputs(copy.call(copy.batch(examples))())
                labels = copy.labels[examples].to(outputs.device)
                loss = copy.task.loss(outputs, labels).mean()
                if not loss.isfinite():
                    raise FloatingPointError(
                        f"the loss became {loss.item()} while retraining {layer.name}; try a "
                        f"learning_rate below {settings.learning_rate}."
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        model.eval()
        rows.append(reader.accuracies_of(state_of(model)))
        in_a_row = in_a_row + 1 if rows[-1][group] == 1 else 0
        if in_a_row == settings.patience:
            break
    return model, rows


def _rewound(study: Study, layer: LayerGroup, epoch: int) -> list[nn.Parameter]:
    """Rewind the layer with its statistics and freeze the rest; return what to train."""
    checkpoint = state_at(study, epoch)
    trained = []
    with torch.no_grad():
        for name, buffer in study.model.named_buffers():
            if name in layer.buffers:
                buffer.copy_(checkpoint[name])
        for name, parameter in study.model.named_parameters():
            parameter.requires_grad_(name in layer.parameters)
            if name in layer.parameters:
                parameter.copy_(checkpoint[name])
                trained.append(parameter)
    return trained


def _train_mode(model: nn.Module, layer: LayerGroup, settings: RetrainingSettings) -> None:
    """Train mode for the layer's own modules, or for all if statistics are not frozen."""
    if not settings.frozen_statistics or layer.name == EVERYTHING:
        model.train()
        return
    own_modules = {name.rpartition(".")[0] for name in layer.parameters + layer.buffers}
    for name, module in model.named_modules():
        module.training = name in own_modules


def _everything(model: nn.Module) -> LayerGroup:
    parameters = tuple(name for name, _ in model.named_parameters())
    return LayerGroup(EVERYTHING, parameters, tuple(name for name, _ in model.named_buffers()))
