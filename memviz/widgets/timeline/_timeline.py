"""The timeline: accuracy at each checkpoint, and each layer put back to an epoch of its own."""

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
    """What a session's timeline shows; it computes in the worker's spare time.

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
        """Rewinding, to an epoch for each layer."""
        return {
            "rewind": Action(
                lambda asked, _: self.rewind(asked["epochs"]),
                *("epochs", (dict,), "an epoch for each layer"),
            )
        }

    def start(self, run: TrainingRun | None) -> None:
        """Compute the curves; a recorded run gives every epoch of the examples it holds."""
        if run is not None and len(run.labels) > len(self.session.study):
            raise ValueError(
                f"the run holds {len(run.labels)} examples and the study "
                f"{len(self.session.study)}; give the run of this study's own training."
            )
        self.run = run or self.run
        self._worker.work("timeline", self._steps(), rank=1)

    def rewind(self, epochs: Mapping[str, Any]) -> None:
        """Put layers back, each to its epoch, and tell every group's accuracy.

        Raises
        ------
        ValueError
            If a layer or an epoch is unknown.
        """
        wanted = {str(name): int(epoch) for name, epoch in epochs.items()}
        self._rewinder.state(wanted)  # a wrong name is told at once
        self._worker.work("rewind", self._rewound(wanted), rank=0)

    def _rewound(self, epochs: dict[str, int]) -> Iterator[None]:
        found = self._rewinder.accuracies(epochs)
        yield
        self._tell(Message({"type": "rewound", "epochs": epochs, "accuracy": found}, []))

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
        """Curves of every epoch, of the groups that the run holds whole."""
        run, study = self.run, self.session.study
        if run is None:
            return []
        held = [name for name, m in study.groups.items() if not m[len(run.labels) :].any()]
        return curves(study, run.predictions.long(), held)


@torch.no_grad()
def predicted(study: Study) -> Tensor:
    """Predicted class of every example, int64 ``[n]``."""
    parts = []
    for examples in torch.arange(len(study)).split(_BATCH):
        outputs = study.task.outputs(study.call(study.batch(examples))())
        parts.append(study.task.predictions(outputs).cpu())
    return torch.cat(parts)


def curves(study: Study, predictions: Tensor, names: list[str] | None = None) -> Curves:
    """Shares of each group that get their given label and, where that differs, their true one.

    Parameters
    ----------
    predictions : int64 ``[epochs, m]``
        Of the first m examples of the study.
    names : list of str, optional
        Groups, all unless given.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(2, 4), torch.tensor([0, 1]), {"clean": range(2)})
    >>> curves(study, torch.tensor([[0, 0], [0, 1]]))
    [{'name': 'clean', 'given': [0.5, 1.0], 'true': None}]
    """
    m, found = predictions.shape[1], []
    for name, mask in study.groups.items():
        if names is not None and name not in names:
            continue
        mine = mask[:m]
        given = study.labels[:m]
        entry: dict[str, Any] = {"name": name}
        entry["given"] = _shares(predictions, given, mine)
        entry["true"] = None
        if study.true_labels is not None:
            wrong = mine & (study.true_labels[:m] != given)
            if wrong.any():
                entry["true"] = _shares(predictions, study.true_labels[:m], mine)
        found.append(entry)
    return found


def _shares(predictions: Tensor, labels: Tensor, mask: Tensor) -> list[float]:
    right = (predictions == labels)[:, mask]
    return [round(share, 5) for share in right.double().mean(1).tolist()]
