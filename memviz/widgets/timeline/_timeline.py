"""The timeline: accuracy at each checkpoint, and layers rewound each to its own epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from memviz.probes.localization import Rewinder
from memviz.study import Study
from memviz.training.run import TrainingRun
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
            If the run has more examples than the study.
        """
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
        by_layer = {str(name): int(epoch) for name, epoch in epochs.items()}
        self._rewinder.state(by_layer)  # a wrong name fails here, before the work begins
        self._worker.work("rewind", self._rewound(by_layer), rank=0)

    def _rewound(self, epochs: dict[str, int]) -> Iterator[None]:
        accuracy = self._rewinder.accuracies(epochs)
        yield
        self._tell(Message({"type": "rewound", "epochs": epochs, "accuracy": accuracy}, []))

    def _steps(self) -> Iterator[None]:
        study, epochs = self.session.study, list(self._rewinder.epochs)
        predictions: list[Tensor] = []
        for epoch in epochs:
            predictions.append(predicted(variant(study, f"epoch {epoch}")))
            yield
        groups = curves(study, torch.stack(predictions))
        self._tell(
            Message(
                {
                    "type": "timeline",
                    "epochs": epochs,
                    "groups": groups,
                    "fine": self._fine(),
                    "layers": list(self._rewinder.groups),
                    "accuracy": self._rewinder.accuracies({}),
                },
                [],
            )
        )

    def _fine(self) -> Curves:
        """Curves over every epoch, for the groups that the run covers completely."""
        run, study = self.run, self.session.study
        if run is None:
            return []
        n = len(run.labels)
        covered = [name for name, mask in study.groups.items() if not mask[n:].any()]
        return curves(study, run.predictions.long(), covered)


@torch.no_grad()
def predicted(study: Study) -> Tensor:
    """Predicted class of every example, int64 ``[n]``."""
    parts = []
    for examples in torch.arange(len(study)).split(_BATCH):
        outputs = study.task.outputs(study.call(study.batch(examples))())
        parts.append(study.task.predictions(outputs).cpu())
    return torch.cat(parts)


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
    m, entries = predictions.shape[1], []
    for name, mask in study.groups.items():
        if names is not None and name not in names:
            continue
        members = mask[:m]
        given = study.labels[:m]
        entry: dict[str, Any] = {"name": name}
        entry["given"] = _shares(predictions, given, members)
        entry["true"] = None
        if study.true_labels is not None:
            wrong = members & (study.true_labels[:m] != given)
            if wrong.any():
                entry["true"] = _shares(predictions, study.true_labels[:m], members)
        entries.append(entry)
    return entries


def _shares(predictions: Tensor, labels: Tensor, mask: Tensor) -> list[float]:
    right = (predictions == labels)[:, mask]
    return [round(share, 5) for share in right.double().mean(1).tolist()]
