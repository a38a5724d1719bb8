"""The example inspector: one example's scores, units, neighbours and learning curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.engine.search import nearest
from memviz.scores import Scores
from memviz.study import Study, private
from memviz.training.run import TrainingRun
from memviz.variants import variant
from memviz.widgets.core import Message, Part
from memviz.widgets.workbench import Controller

_UNITS, _NEIGHBOURS, _BATCH = 12, 6, 1024


class Inspector(Part):
    """The messages about the opened example, computed in the background.

    Parameters
    ----------
    controller : Controller
    """

    name = "inspector"

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self.scores: dict[str, Scores] = {}
        self.run: TrainingRun | None = None
        self._features: tuple[Study, Tensor] | None = None

    def use(self, scores: Mapping[str, Scores], run: TrainingRun | None) -> None:
        """Take further scores over examples, and a recorded run for the learning curve.

        Raises
        ------
        ValueError
            If scores are over units.
        """
        for name, given in scores.items():
            if given.examples is None:
                raise ValueError(
                    f"{name!r} is over units; the inspector shows scores over examples."
                )
        self.scores.update(scores)
        self.run = run or self.run

    def start(self) -> None:
        """Inspect the opened example."""
        if self.session.opened is None:
            self._worker.drop("inspect")
        else:
            self._worker.work("inspect", self._steps(self.session.opened), rank=2)

    def example_opened(self) -> None:
        """Inspect it."""
        self.start()

    def swept(self) -> None:
        """Send the exact effects on the opened example."""
        self.start()

    def _steps(self, index: int) -> Iterator[None]:
        content: dict[str, Any] = {"type": "inspected", "index": index}
        content["scores"] = [row(name, given, index) for name, given in self.scores.items()]
        content["units"], content["random"] = self._units(index)
        self._say(content)
        yield
        content["curve"] = self._curve(index)
        self._say(content)
        yield
        content["neighbours"] = self._neighbours(index)
        self._say(content)
        yield

    def _say(self, content: dict[str, Any]) -> None:
        if self.session.opened == content["index"]:
            self._tell(Message(dict(content), []))

    def _units(self, index: int) -> tuple[list[dict[str, Any]], list[float] | None]:
        """The units that matter most to it; and of a random one 2.5 %, median and 97.5 %."""
        controller = self._controller
        exact = controller.effects.get(controller.key)
        estimates = controller.estimates.get(controller.key)
        units = controller.scores.units
        lost = np.full(len(units), np.nan, np.float32)
        for effects in (estimates, exact):
            if effects is not None:
                column = int((effects.examples == index).nonzero()[0])
                done = effects.done.numpy()
                lost[done] = -effects.margin_change[:, column].numpy()[done]
        rows = np.flatnonzero(~np.isnan(lost))
        is_exact = np.zeros(len(lost), bool) if exact is None else exact.done.numpy()
        found = [
            {"unit": str(units[k]), "lost": float(lost[k]), "exact": bool(is_exact[k])}
            for k in rows[np.argsort(-lost[rows], kind="stable")][:_UNITS]
        ]
        ends = np.percentile(lost[rows], [2.5, 50, 97.5]).tolist() if len(rows) > 1 else None
        return found, ends

    @torch.no_grad()
    def _curve(self, index: int) -> dict[str, Any]:
        run, study = self.run, self.session.study
        if run is not None and index < len(run.labels):
            margins = run.margins[:, index].tolist()
            return {"epochs": list(range(1, len(run) + 1)), "margin": margins}
        epochs, margins = sorted(study.checkpoints), []
        example = torch.tensor([index])
        for epoch in epochs:
            then = variant(study, f"epoch {epoch}")
            outputs = then.task.outputs(then.call(then.batch(example))())
            labels = then.labels[example].to(outputs.device)
            margins.append(float(then.task.margin(outputs, labels)))
        return {"epochs": epochs, "margin": margins}

    def _neighbours(self, index: int) -> list[dict[str, Any]]:
        study = self.session.replay.study
        if self._features is None or self._features[0] is not study:
            self._features = study, last_features(study, self._output_layer())
        features = self._features[1]
        test = study.groups.get("test", torch.zeros(len(study), dtype=torch.bool))
        others = (~test).nonzero()[:, 0]
        others = others[others != index]
        if not len(others) or not features.any(1).all():
            return []
        k = min(_NEIGHBOURS, len(others))
        neighbours = nearest(features[index][None], features[others], k, progress=False)
        return [
            {"index": int(others[row]), "cosine": float(cosine)}
            for row, cosine in zip(neighbours.ids[0], neighbours.values[0], strict=True)
        ]

    def _output_layer(self) -> str:
        names = [layer.name for layer in self.session.replay.layers if layer.is_output]
        return names[-1] if names else self.session.known[-1].name


def row(name: str, scores: Scores, index: int) -> dict[str, Any]:
    """One score of one example: its value, its rank from the top, and the range of its null.

    Examples
    --------
    >>> scores = Scores("AUM", "logits", np.array([0.1, 0.9]), examples=np.array([4, 7]))
    >>> row("AUM", scores, 4)["rank"], row("AUM", scores, 5)["value"]
    (2, None)
    """
    assert scores.examples is not None
    place = np.flatnonzero(scores.examples == index)
    known = ~np.isnan(scores.values)
    entry: dict[str, Any] = {"name": name, "measure": scores.measure, "of": int(known.sum())}
    entry |= {"value": None, "rank": None, "null": None, "higher": scores.higher}
    if len(place) and known[place[0]]:
        value = float(scores.values[place[0]])
        entry |= {"value": value, "rank": int((scores.values[known] > value).sum()) + 1}
        if scores.null is not None:
            low, high = (float(end[place[0]]) for end in scores.null.interval)
            entry["null"] = [low, high] if np.isfinite([low, high]).all() else None
    return entry


@torch.no_grad()
def last_features(study: Study, layer: str) -> Tensor:
    """Inputs of the last layer for every example, float32 ``[n, features]``."""
    study, inputs = private(study), list[Tensor]()

    def record(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append(args[0].flatten(1).float().cpu())

    handle = study.model.get_submodule(layer).register_forward_pre_hook(record)
    try:
        for examples in torch.arange(len(study)).split(_BATCH):
            study.call(study.batch(examples))()
    finally:
        handle.remove()
    return torch.cat(inputs)
