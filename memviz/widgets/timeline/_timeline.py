"""The timeline: accuracy at each checkpoint, and layers rewound each to its own epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from memviz.checks import quoted
from memviz.probes.localization import Rewinder
from memviz.study import Study, check_classes
from memviz.tasks import are_right
from memviz.training.run import TrainingRun
from memviz.units import Layer, layer_words
from memviz.variants import variant
from memviz.widgets.core import Action, Message, Part
from memviz.widgets.workbench import Controller

_BATCH = 1024
Curves = list[dict[str, Any]]


class Timeline(Part):
    """What a session's timeline shows, computed in the background.

    Parameters
    ----------
    controller : Controller
        Of a session whose study has checkpoints.

    Raises
    ------
    ValueError
        If the study has no checkpoints.
    """

    name = "timeline"

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._rewinder = Rewinder(self.session.study)
        self.run: TrainingRun | None = None

    @property
    def actions(self) -> Mapping[str, Action]:
        """Rewind layers, each to its own epoch."""
        return {
            "rewind": Action(
                lambda request, _: self.rewind(request["epochs"]),
                *("epochs", (dict,), "an epoch for each layer"),
            )
        }

    def start(self, run: TrainingRun | None) -> None:
        """Compute the curves; a recorded run adds every epoch for the examples it covers.

        Raises
        ------
        ValueError
            If the run has more examples than the study, or the study's labels are not classes.
        """
        if run is not None:
            check_classes(self.session.study, "recorded runs")
        if run is not None and len(run.labels) > len(self.session.study):
            raise ValueError(
                f"the run has {len(run.labels)} examples, but the study only "
                f"{len(self.session.study)}; give the run that trained this study's model."
            )
        self.run = run or self.run
        self._worker.work("timeline", self._steps(), rank=1)

    def rewind(self, epochs: Mapping[str, Any]) -> None:
        """Rewind layers, each to its epoch, and send every group's accuracy.

        Raises
        ------
        ValueError
            If a layer or an epoch is unknown.
        """
        by_layer = {str(name): epoch for name, epoch in epochs.items()}
        for name, epoch in by_layer.items():
            if not isinstance(epoch, int) or isinstance(epoch, bool):
                raise ValueError(
                    f"the epoch of {quoted(name)} is {quoted(epoch)}; give a whole number for each "
                    "layer."
                )
        self._rewinder.state(by_layer)  # a wrong name fails here, before the work begins
        self._worker.work("rewind", self._rewound(by_layer), rank=0)

    def _rewound(self, epochs: dict[str, int]) -> Iterator[None]:
        accuracy = self._rewinder.accuracies(epochs)
        yield
        self._tell(Message({"type": "rewound", "epochs": epochs, "accuracy": accuracy}, []))

    def _steps(self) -> Iterator[None]:
        study, epochs = self.session.study, list(self._rewinder.epochs)
        given: list[Tensor] = []
        true: list[Tensor] = []
        for epoch in epochs:
            then = variant(study, f"epoch {epoch}")
            outputs = outputs_of(then)
            given.append(are_right(study.task, outputs, study.labels))
            if study.true_labels is not None:
                true.append(are_right(study.task, outputs, study.true_labels))
            yield
        groups = _curves(study, torch.stack(given), torch.stack(true) if true else None)
        self._tell(
            Message(
                {
                    "type": "timeline",
                    "epochs": epochs,
                    "groups": groups,
                    "fine": self._fine(),
                    "layers": self._layers(),
                    "accuracy": self._rewinder.accuracies({}),
                },
                [],
            )
        )

    def _layers(self) -> list[dict[str, str]]:
        """Every layer that can be rewound, called as in all views; norms and embeddings too."""
        known = {layer.name: layer for layer in self.session.known}
        names = [name for name in self._rewinder.groups if name]
        others = [Layer(n, "parameters", 1, "parameters") for n in names if n not in known]
        words = layer_words([*known.values(), *others])
        labels = {name: words[name].layer for name in names}
        return [
            {"name": name, "label": labels.get(name, "other parameters")}
            for name in self._rewinder.groups
        ]

    def _fine(self) -> Curves:
        """Curves over every epoch, for the groups that the run covers completely."""
        run, study = self.run, self.session.study
        if run is None:
            return []
        n = len(run.labels)
        covered = [name for name, mask in study.groups.items() if not mask[n:].any()]
        return curves(study, run.predictions.long(), covered)


@torch.no_grad()
def outputs_of(study: Study) -> Tensor:
    """Outputs of every example, ``[n, ...]``."""
    parts = []
    for examples in torch.arange(len(study)).split(_BATCH):
        parts.append(study.task.outputs(study.call(study.batch(examples))()))
    return torch.cat(parts)


def predicted(study: Study) -> Tensor:
    """Prediction for every example: its class, int64 ``[n]``, if labels are classes."""
    return study.task.predictions(outputs_of(study)).cpu()


def curves(study: Study, predictions: Tensor, names: list[str] | None = None) -> Curves:
    """Share of each group predicted as its given label and, where that differs, its true label.

    Parameters
    ----------
    predictions : int64 ``[epochs, m]``
        Predictions for the first m examples of the study.
    names : list of str, optional
        Groups; all by default.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(2, 4), torch.tensor([0, 1]), {"clean": range(2)})
    >>> curves(study, torch.tensor([[0, 0], [0, 1]]))
    [{'name': 'clean', 'given': [0.5, 1.0], 'true': None}]
    """
    m = predictions.shape[1]
    true = None if study.true_labels is None else predictions == study.true_labels[:m]
    return _curves(study, predictions == study.labels[:m], true, names)


def _curves(
    study: Study, given: Tensor, true: Tensor | None, names: list[str] | None = None
) -> Curves:
    """Curves of whether each example gets its given and its true label, bool ``[epochs, m]``."""
    m, entries = given.shape[1], []
    for name, mask in study.groups.items():
        if names is not None and name not in names:
            continue
        members = mask[:m]
        entry: dict[str, Any] = {"name": name, "given": _shares(given, members), "true": None}
        if true is not None and study.true_labels is not None:
            differ = (study.true_labels[:m] != study.labels[:m]).reshape(m, -1).any(1)
            if (members & differ).any():
                entry["true"] = _shares(true, members)
        entries.append(entry)
    return entries


def _shares(right: Tensor, mask: Tensor) -> list[float]:
    return [round(share, 5) for share in right[:, mask].double().mean(1).tolist()]
