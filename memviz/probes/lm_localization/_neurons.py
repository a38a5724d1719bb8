"""FFN neurons of a language model: where they are read, and passes in which they are changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from memviz.engine.record import (
    NONLINEARITIES,
    Edit,
    Layout,
    Located,
    Replay,
    Site,
    Trace,
    is_copy,
    map_arguments,
    run_edited,
    tensors_in,
)
from memviz.engine.sweep import ExampleAxes
from memviz.restored import undisturbed
from memviz.study import Study, check_study
from memviz.tasks import Language
from memviz.units import Layer, Unit

# GELU and its like may be written out in these.
_BY_ELEMENT = frozenset(name.strip("_") for name in NONLINEARITIES) | {
    *("mul", "div", "truediv", "add", "sub", "neg", "pow", "exp", "square", "erf", "clamp"),
}
_CURVED = frozenset(name.strip("_") for name in NONLINEARITIES) | {"pow", "exp", "square", "erf"}

Change = Callable[["FeedForward", int, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class FeedForward:
    """The neurons of one feed-forward network, ``o = Σ h_i v_i`` (Chang et al. 2024, section 2).

    Attributes
    ----------
    layer : Layer
        Its units are the neurons.
    sites : tuple of Site
        Where their activations ``h`` are given to the projection, one per use.
    weight : Tensor
        Of the projection, as the model holds it.
    turned : bool
        Whether ``v_i`` is row i of the weight; else it is column i.
    """

    layer: Layer
    sites: tuple[Site, ...]
    weight: Tensor
    turned: bool

    @property
    def norms(self) -> Tensor:
        """The length of each ``v_i``, float64 ``[neurons]``."""
        lengths: Tensor = self.weight.detach().double().norm(dim=1 if self.turned else 0)
        return lengths.cpu()


class Neurons:
    """Passes of some passages, with the activations of all FFN neurons in one's hands.

    A neuron is a feature between the two linear maps of a feed-forward network, behind its
    non-linearity; in a gated one it is the product of gate and up projection.

    Parameters
    ----------
    study : Study
        With the task :class:`~memviz.tasks.Language`.
    examples : int64 ``[n]``

    Raises
    ------
    ValueError
        If the task is another, or the model has no such neurons.
    """

    def __init__(self, study: Study, examples: Tensor) -> None:
        self.task = language(study)
        self.study, self.examples = study, examples
        self.replay = Replay(study, examples, memory=0)
        self._axes = ExampleAxes(self.replay)
        self._known: dict[int, dict[str, FeedForward]] = {}
        self.layers = [network.layer for network in self.networks(0)]
        if not self.layers:
            raise ValueError(
                f"{type(study.model).__name__} has no feed-forward network, two linear maps with a "
                "non-linearity between them, so there are no neurons to score."
            )

    @property
    def units(self) -> tuple[Unit, ...]:
        """All neurons, layer by layer, ``U`` of them."""
        return tuple(unit for layer in self.layers for unit in layer.all())

    @property
    def sizes(self) -> list[int]:
        """Neurons of each layer."""
        return [layer.units for layer in self.layers]

    def networks(self, step: int) -> list[FeedForward]:
        """The feed-forward networks on the path of one chunk.

        Raises
        ------
        ValueError
            If these passages reach other networks than the first ones.
        """
        path = self.replay.trace_of(step)
        if id(path) not in self._known:
            reached = {name: self.replay.place(step, name) for name in self.replay.located}
            self._known[id(path)] = feed_forward(path, [at for at in reached.values() if at])
        networks = list(self._known[id(path)].values())
        names = [network.layer.name for network in networks]
        if step and names != [layer.name for layer in self.layers]:
            raise ValueError(
                "some passages reach other feed-forward networks than the first one; score them "
                "apart, with examples=."
            )
        return networks

    def labels(self, step: int) -> Tensor:
        """Continuations of one chunk, int64 ``[b, continuation]``, on the model's device."""
        chosen = self.study.labels[self.examples[self.replay.chunk(step)]]
        return chosen.to(self.study.device)

    def outputs(
        self,
        step: int,
        change: Change,
        *,
        rows: Tensor | None = None,
        layers: Sequence[str] = (),
        also: Sequence[Edit] = (),
    ) -> Tensor:
        """What the task takes from a pass of one chunk, with gradients, ``[rows, ...]``.

        Parameters
        ----------
        step : int
        change : callable
            From a network, the number of its use and ``h`` ``[rows, places, neurons]`` to the
            ``h`` that the projection is given.
        rows : int64 ``[rows]``, optional
            Which example of the chunk each row of the pass is; by default each once.
        layers : sequence of str
            Networks to change, all by default.
        also : sequence of Edit
            Other changes of the pass.
        """
        positions = self.replay.chunk(step)
        rows = torch.arange(len(positions)) if rows is None else rows
        path, study = self.replay.trace_of(step), self.replay.own_study
        edits = [
            Edit(site, partial(self._changed, step, site, len(rows), partial(change, network, k)))
            for network in self.networks(step)
            if not layers or network.layer.name in layers
            for k, site in enumerate(network.sites)
        ]
        calm = undisturbed(random=path.random, counting=path.counting)
        with calm, calm, torch.enable_grad():
            call = study.call(study.batch(self.examples[positions[rows]]))
            return self.task.outputs(run_edited(path, [*also, *edits], call))

    def predicting(self, h: Tensor) -> Tensor:
        """The places at which the tokens of the continuation are predicted.

        Parameters
        ----------
        h : ``[rows, places, neurons]``

        Returns
        -------
        ``[rows, continuation, neurons]``

        Raises
        ------
        ValueError
            If the network's places are not the passage's tokens.
        """
        first = self.task.prompt - 1
        found = h[:, first : first + self.task.continuation]
        if found.shape[1] < self.task.continuation:
            raise ValueError(
                f"a feed-forward network reads {h.shape[1]} places of each passage, and its "
                f"continuation ends at token {first + self.task.continuation + 1}; memviz can't "
                "tell which place predicts which token."
            )
        return found

    def _changed(
        self, step: int, site: Site, count: int, change: Callable[[Tensor], Tensor], value: Tensor
    ) -> Tensor:
        where = self._axes.of(step, site, count, tuple(value.shape))
        if where is None or site.axis % value.dim() != value.dim() - 1 or where.interleaved:
            raise ValueError(
                "memviz can't tell which of a network's activations belong to which passage of a "
                "batch; give the passages one at a time, with examples=."
            )
        rows = where.rows(value)
        given = rows.reshape(count, -1, value.shape[-1])
        return _back(change(given).reshape(rows.shape), where, value)


def _back(rows: Tensor, where: Layout, value: Tensor) -> Tensor:
    """From one row per example to the tensor's own axes: undoes ``Layout.rows``."""
    return rows.movedim(0, where.axis).reshape(value.shape).to(value.dtype)


def language(study: Study) -> Language:
    """The study's task.

    Raises
    ------
    ValueError
        If it is not :class:`~memviz.tasks.Language`.
    """
    check_study(study)
    if not isinstance(study.task, Language):
        raise ValueError(
            f"this localizer reads the continuations of passages, and the study's task is "
            f"{type(study.task).__name__}; give a study with "
            "task=mv.tasks.Language(prompt, continuation)."
        )
    return study.task


def feed_forward(trace: Trace, located: Sequence[Located]) -> dict[str, FeedForward]:
    """Feed-forward networks of a forward pass by the layer that their neurons are units of."""
    found = {}
    for at in located:
        if at.layer.kind == "neurons" and at.read_by:
            sites, readers = at.unit_sites, at.read_by
        elif at.layer.kind == "linear" and not at.layer.is_output:
            ends = [_reader(trace, site.call) for site in at.unit_sites]
            if None in ends or not ends:
                continue
            sites = tuple(end for end in ends if end is not None)
            readers = tuple(site.call for site in sites)
        else:
            continue
        calls = [trace.calls[reader] for reader in readers]
        weights = [map_arguments(call.name, call.args, call.kwargs)["weight"] for call in calls]
        if all(weight is weights[0] for weight in weights):
            turned = calls[0].name != "linear"
            found[at.layer.name] = FeedForward(at.layer, sites, weights[0], turned)
    return found


def _reader(trace: Trace, start: int) -> Site | None:
    """Where a linear map reads what a call made, element by element and not in a straight line."""
    calls = trace.calls
    values = set(calls[start].output_keys)
    # What other calls made: a product with it is a gate, a sum with it a residual stream.
    made = {key for call in calls[:start] for key in call.output_keys}
    curved, sites = _plain(calls[start].name) in _CURVED, []
    if {id(t) for t in tensors_in(trace.raw)} & {key[0] for key in values}:
        return None
    for index in range(start + 1, len(calls)):
        call = calls[index]
        if values.isdisjoint(call.input_keys):
            made.update(call.output_keys)
            continue
        number = next(k for k, key in enumerate(call.input_keys) if key in values)
        value = call.inputs[number]
        if map_arguments(call.name, call.args, call.kwargs).get("input") is value:
            sites.append(Site(index, "input", -1, 1, number))
            made.update(call.output_keys)
            continue
        mixed = any(key in made and key not in values for key in call.input_keys)
        name = _plain(call.name)
        follows = name in _BY_ELEMENT or is_copy(call.name, value, call.output)
        if mixed or not follows:
            return None
        curved = curved or name in _CURVED
        values.update(call.output_keys)
    return sites[0] if curved and len(sites) == 1 else None


def _plain(name: str) -> str:
    """A function's plain name: ``mul`` for ``__rmul__`` and ``mul_``."""
    short = name.strip("_")
    return short[1:] if short[1:] in ("add", "sub", "mul", "truediv", "pow") else short
