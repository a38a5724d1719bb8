"""A network with each layer rewound to an epoch of its own, without changing the model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor
from torch.func import functional_call

from memviz.checks import IndicesLike, checked, coded, quoted
from memviz.study import Study, check_examples, twin
from memviz.tasks import are_right
from memviz.training.checkpoints import load_checkpoint

from ._layer_groups import LayerGroup, LayersLike, layer_groups, state_of

_BATCH = 1024
_KEPT = 256


class Rewinder:
    """Accuracies of a study with each layer rewound to an epoch of its own, as by one slider each.

    Weights are swapped in a copy of the modules, so the study's model is never modified, not even
    for the duration of a call: another thread may be calling it. Checkpoints are read once, and
    results are cached.

    Parameters
    ----------
    study : Study
        With checkpoints.
    layers : mapping, optional
        As in ``layer_groups``.
    examples : int64 ``[n]``, optional
        Examples to evaluate; all by default. Fewer are faster.

    Attributes
    ----------
    groups : dict of name to LayerGroup
    examples : int64 ``[n]``
    epochs : tuple of int
        Epochs with a checkpoint.

    Raises
    ------
    ValueError
        If the study has no checkpoints, or an example is given twice.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    >>> study = Study(
    ...     model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)},
    ...     checkpoints={0: {"0.weight": torch.zeros(3, 4), "0.bias": torch.tensor([1.0, 0, 0])}},
    ... )
    >>> Rewinder(study).accuracies({"0": 0})
    {'test': 1.0}
    """

    @checked
    def __init__(
        self, study: Study, layers: LayersLike | None = None, examples: IndicesLike | None = None
    ) -> None:
        self.study = study
        self.examples = check_examples(study, examples)
        if len(self.examples.unique()) < len(self.examples):
            raise ValueError("examples names an example twice; give each once.")
        self.epochs = check_epochs(study)
        self.groups = {group.name: group for group in layer_groups(study.model, layers)}
        self._states: dict[int, dict[str, Tensor]] = {}
        self._answers: OrderedDict[tuple[object, ...], dict[str, float]] = OrderedDict()

    def state(self, epochs: Mapping[str, int], *, buffers: bool = False) -> dict[str, Tensor]:
        """Parameters and buffers by name, with the layers in ``epochs`` rewound.

        With ``buffers`` the batch-norm statistics of these layers are rewound, too; the paper's
        released code keeps them.

        Raises
        ------
        ValueError
            If a layer or an epoch is unknown, or a checkpoint is of another architecture.
        """
        state = state_of(self.study.model)
        for name, epoch in epochs.items():
            group = self._group(name)
            checkpoint = self._state_at(epoch)
            for key in group.parameters + (group.buffers if buffers else ()):
                state[key] = checkpoint[key]
        return state

    def accuracies(self, epochs: Mapping[str, int], *, buffers: bool = False) -> dict[str, float]:
        """Accuracy of each group of the study with the layers in ``epochs`` rewound."""
        present = tuple((t.data_ptr(), t._version) for t in state_of(self.study.model).values())
        key = (present, frozenset(epochs.items()), buffers)
        if key not in self._answers:
            self._answers[key] = self.accuracies_of(self.state(epochs, buffers=buffers))
            if len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return dict(self._answers[key])

    def accuracies_at(self, epoch: int) -> dict[str, float]:
        """Accuracy of each group at the whole checkpoint of an epoch, buffers included."""
        return self.accuracies_of(self._state_at(epoch))

    @torch.no_grad()
    def accuracies_of(self, state: Mapping[str, Tensor]) -> dict[str, float]:
        """Accuracy of each group with these parameters and buffers."""
        study, right = self.study, []
        # Copied, since a model may change its buffers, a counter of its calls for example.
        buffers = {name for name, _ in study.model.named_buffers()}
        state = {name: t.clone() if name in buffers else t for name, t in state.items()}
        model = twin(study.model)  # functional_call puts the state into the modules for a while
        for examples in self.examples.split(_BATCH):
            batch = study.batch(examples)
            args, kwargs = ((), dict(batch)) if isinstance(batch, Mapping) else ((batch,), {})
            raw = functional_call(model, state, args, kwargs)
            outputs = study.task.outputs(raw)
            right.append(are_right(study.task, outputs, study.labels[examples]))
        correct = torch.cat(right)
        masks = {name: mask[self.examples] for name, mask in study.groups.items()}
        return {name: float(correct[m].double().mean()) for name, m in masks.items() if m.any()}

    def _group(self, name: str) -> LayerGroup:
        if name not in self.groups:
            raise ValueError(
                f"there is no layer group {quoted(name)}; choose from {', '.join(self.groups)}."
            )
        return self.groups[name]

    def _state_at(self, epoch: int) -> dict[str, Tensor]:
        if epoch not in self._states:
            check_epochs(self.study, [epoch])
            self._states[epoch] = state_at(self.study, epoch)
        return self._states[epoch]


def check_epochs(study: Study, epochs: Sequence[int] | None = None) -> tuple[int, ...]:
    """The given epochs, or by default all that have a checkpoint.

    Raises
    ------
    ValueError
        If the study has no checkpoints, or none of a given epoch.
    """
    known = sorted(study.checkpoints)
    if not known:
        raise ValueError(
            coded(
                "E29",
                "this study has no checkpoints; give Study(checkpoints={epoch: state_dict}), "
                "for example from train(checkpoint_epochs=...).",
            )
        )
    missing = [epoch for epoch in epochs or () if epoch not in study.checkpoints]
    if missing:
        raise ValueError(
            f"there is no checkpoint of epoch {missing[0]}; this study has "
            f"{', '.join(map(str, known))}."
        )
    return tuple(known if epochs is None else epochs)


def state_at(study: Study, epoch: int) -> dict[str, Tensor]:
    """Parameters and buffers of a checkpoint, on the devices of the model's own.

    Raises
    ------
    ValueError
        If the checkpoint is of another architecture.
    """
    model = deepcopy(study.model)
    load_checkpoint(model, study.checkpoints[epoch])
    return state_of(model)
