"""Entropy under a choice of bin edges: buttons switch the edges of the same units."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Self

import ipywidgets
import numpy as np

from memviz.probes.information import Entropy
from memviz.probes.information.figures import entropy_by_model

Models = Mapping[Any, Sequence[Entropy]]
_LEVEL = 0.005  # nats; a smaller change counts as level


class EntropyView(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A row of buttons above a sentence and a figure.

    Attributes
    ----------
    edges : ipywidgets.ToggleButtons
    sentence : str
        What the figure shows, and what the last switch changed.
    """

    def __init__(self, found: Mapping[str, Models], label: str) -> None:
        self._models, self._label = found, label
        self._figures: dict[str, str] = {}
        self.edges = ipywidgets.ToggleButtons(
            options=list(found), description="edges of bins", style={"description_width": "initial"}
        )
        self._shown = ipywidgets.HTML()
        self.sentence = _seen(found, str(self.edges.value), label)
        self._show()
        self.edges.observe(self._switch, "value")
        super().__init__([self.edges, self._shown])

    def _switch(self, change: dict[str, Any]) -> None:
        self.sentence = _switched(self._models, change["old"], change["new"], self._label)
        self._show()

    def _show(self) -> None:
        self._shown.value = self._still()

    def _still(self) -> str:
        edges = str(self.edges.value)
        if edges not in self._figures:
            out = io.BytesIO()
            entropy_by_model(self._models[edges], self._label).savefig(out, format="png", dpi=120)
            self._figures[edges] = base64.b64encode(out.getvalue()).decode()
        words = escape(self.sentence, quote=True)
        return (
            f'<p role="status" aria-live="polite">{words}</p><img alt="{words}" '
            f'src="data:image/png;base64,{self._figures[edges]}" style="max-width:100%">'
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"memviz entropy. {self.sentence}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        data = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/html": self._still(), "text/plain": repr(self)}


def entropy_view(found: Mapping[str, Models], label: str = "model") -> EntropyView:
    """Switch between choices of bin edges: a figure shows entropy, a sentence says what changed.

    Whether entropy rises or falls with label noise depends on which units share their bin edges
    (see :func:`memviz.probes.information.entropy`).

    Parameters
    ----------
    found : mapping of edges to a mapping of setting to one Entropy per seed
        The same settings under every choice of edges.
    label : str
        What the settings vary, for example ``"share of wrong labels"``.

    Raises
    ------
    ValueError
        If nothing is given, the settings differ, or an Entropy was computed with other edges, with
        other bins or at another place than the rest, or has constant units only.

    Examples
    --------
    >>> import torch
    >>> from memviz.probes.information import entropy
    >>> from memviz.study import Study
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(99, 4), torch.zeros(99), {"test": range(99)})
    >>> results = {e: {"MLP": [entropy(study, bins=8, edges=e)]} for e in ("global", "unit")}
    >>> entropy_view(results).edges.options
    ('global', 'unit')
    """
    if not found or not all(seeds for models in found.values() for seeds in models.values()):
        raise ValueError("no entropies were given; give them for at least one choice of edges.")
    first = [str(name) for name in next(iter(found.values()))]
    for edges, models in found.items():
        if [str(name) for name in models] != first:
            raise ValueError(
                f"{edges!r} has other models than {next(iter(found))!r}; give the same for both."
            )
        for result in (result for seeds in models.values() for result in seeds):
            if result.edges != edges:
                raise ValueError(
                    f"got an Entropy with edges {result.edges!r} for {edges!r}; "
                    f"compute it with edges={edges!r}."
                )
    results = [result for models in found.values() for seeds in models.values() for result in seeds]
    first_result = results[0]
    for result in results:
        if (result.bins, result.where) != (first_result.bins, first_result.where):
            raise ValueError(
                f"got an Entropy with {result.bins} bins, read {result.where} the non-linearity, "
                f"beside one with {first_result.bins} bins, read {first_result.where} it; compare "
                "equal bins at the same place."
            )
        if bool(result.constant.all()):
            raise ValueError(
                "all units of an Entropy are constant, so it has no mean to show; leave it out, or "
                "give other layers or examples."
            )
    return EntropyView(found, label)


def _seen(by_edges: Mapping[str, Models], edges: str, label: str) -> str:
    """Mean entropy of the first and the last model, in one sentence."""
    first, last = _ends(by_edges[edges])
    names = list(by_edges[edges])
    if len(names) == 1:
        return f"Edges {edges}: mean entropy per unit {first:.2f} nats."
    return (
        f"Edges {edges}: from {label} {names[0]} to {names[-1]} the mean entropy per unit "
        f"{_direction(last - first, 'present')} ({first:.2f} to {last:.2f} nats)."
    )


def _switched(by_edges: Mapping[str, Models], old: str, new: str, label: str) -> str:
    """What the new edges change for the same models, in one sentence."""
    before, after = _ends(by_edges[old]), _ends(by_edges[new])
    names = list(by_edges[new])
    if len(names) == 1:
        return f"Edges {old} → {new}: mean entropy per unit {before[0]:.2f} → {after[0]:.2f} nats."
    return (
        f"Edges {old} → {new}: from {label} {names[0]} to {names[-1]} the mean entropy per unit "
        f"{_direction(after[1] - after[0], 'present')} ({after[0]:.2f} to {after[1]:.2f} nats); "
        f"with {old} edges it {_direction(before[1] - before[0], 'past')}."
    )


def _ends(models: Models) -> tuple[float, float]:
    """Mean entropy of the first and of the last model, over their seeds."""
    means = [float(np.mean([result.mean for result in seeds])) for seeds in models.values()]
    return means[0], means[-1]


def _direction(change: float, tense: str) -> str:
    if abs(change) < _LEVEL:
        return "stays level" if tense == "present" else "stayed level"
    rises = ("rises", "falls") if tense == "present" else ("rose", "fell")
    return f"{rises[0] if change > 0 else rises[1]} by {abs(change):.2f}"
