"""A study's forward passes, recorded, and their outputs with any units ablated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memviz.progress import slow
from memviz.study import Study, check_ready, check_study
from memviz.tasks.task import Inputs
from memviz.units import Layer, UnitSet, UnitsLike, check_units

from ._chunks import Chunked, chunk_size, default_memory, split
from ._edits import along, edit, filter_reference
from ._interventions import Intervention, intervention
from ._layers import Located, Site, locate
from ._replay import ANOTHER_PATH, DivergedError, Edit, Tape, record, run_edited
from ._trace import Trace, tensors_in, trace, undisturbed, version


class CancelledError(RuntimeError):
    """The work was cancelled between two steps; nothing has changed."""


class Replay(Chunked):
    """The engine on one study: clean outputs, and outputs with units ablated.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        Which examples to run, all by default.
    memory : int, optional
        Bytes to use, 1 GiB or half of a GPU's free memory by default. Half of it is for recorded
        results; if they do not fit, passes are run whole or recorded again each time.

    Attributes
    ----------
    clean : Tensor ``[n, ...]``
        What the task takes from the model's outputs, with nothing ablated.
    engine : str
        ``"replay"`` if every chunk is recorded, else ``"hook"``.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> Replay(study).outputs("0:3,5").shape
    torch.Size([6, 3])
    """

    def __init__(
        self, study: Study, examples: Tensor | None = None, *, memory: int | None = None
    ) -> None:
        check_study(study)
        check_ready(study.model)
        self.study = study
        self.examples = torch.arange(len(study)) if examples is None else examples
        self.memory = default_memory(study.device) if memory is None else memory
        if len(self.examples) == 0:
            raise ValueError("no examples to run; name at least one.")
        self._learn()
        few = min(2, len(self.examples))
        recorded, largest = self.trace.bytes // few, self.trace.largest // few
        # With no memory for records, chunks have the default size.
        size = chunk_size(recorded, study.device, largest=largest, memory=self.memory or None)
        super().__init__(min(size, len(self.examples)))
        self._tapes: list[Tape | None] = []
        self._live: list[Tape | None] = []
        self._recorded_bytes = 0
        self._means: dict[Site, Tensor] = {}
        self._donors: dict[tuple[int, Site, Intervention], Tensor] = {}
        self.guard(lambda: self._record(progress=True))

    @property
    def layers(self) -> list[Layer]:
        """The layers with units, in the order the forward pass reaches them."""
        return [located.layer for located in self.located.values()]

    @property
    def engine(self) -> str:
        """How the outputs are made: ``"replay"`` or ``"hook"``."""
        return "replay" if all(tape is not None for tape in self._tapes) else "hook"

    @property
    def path(self) -> str:
        """The former name of ``engine``."""
        warnings.warn(
            "replay.path is now replay.engine; a path is a file.", DeprecationWarning, stacklevel=2
        )
        return self.engine

    @property
    def steps(self) -> int:
        """Number of chunks of examples, each a step for one set of units."""
        return len(self._chunks)

    def check(self, units: UnitsLike) -> UnitSet:
        """The units as a set, once every one of them is known to exist.

        Raises
        ------
        ValueError
            If a layer has no units, or the forward pass does not reach it.
        KeyError, IndexError
            If there is no such layer or unit.
        """
        chosen = UnitSet.of(units)
        modules = dict(self.study.model.named_modules())
        for name in chosen.layers:
            if name in modules and name not in self.located:
                if next(modules[name].parameters(), None) is None or name == "":
                    why = "has no units of its own; name a conv, linear or attention layer"
                else:
                    why = "is never reached as a layer with units in the forward pass"
                raise ValueError(f"layer {name!r} ({type(modules[name]).__name__}) {why}.")
        return check_units(chosen, self.layers)

    def outputs(
        self,
        units: UnitsLike,
        how: str | Intervention = "zero",
        *,
        stop: Callable[[], bool] | None = None,
        keep: bool = False,
    ) -> Tensor:
        """Outputs of every example with the units ablated, ``[n, ...]``.

        With ``keep`` the ablated pass is recorded too, and the next kept one restarts at the first
        layer where they differ; this takes at most the memory of a second record.

        Raises
        ------
        CancelledError
            If ``stop()`` returns True between two chunks.
        """
        chosen, how = self.check(units), intervention(how)
        self.refresh()
        if not chosen:
            return self.clean

        def run() -> Tensor:
            parts = []
            for step in range(self.steps):
                if stop is not None and stop():
                    raise CancelledError("cancelled; nothing has changed.")
                parts.append(self.chunk_outputs(step, chosen, how, keep=keep))
            return torch.cat(parts)

        return self.guard(run)

    def chunk_outputs(
        self, step: int, units: UnitSet, how: Intervention, *, keep: bool = False
    ) -> Tensor:
        """Outputs of one chunk; the units must have been checked."""
        edits = self.edits(step, units, how)
        raw = self._kept_raw(step, edits) if keep else self._raw(step, edits)
        return self.study.task.outputs(raw)

    def chunk(self, step: int) -> Tensor:
        """Positions in ``examples`` that a chunk covers, int64 ``[b]``."""
        return self._chunks[step]

    def edits(self, step: int, units: UnitSet, how: Intervention) -> list[Edit]:
        """The changes that ablate these units in one chunk."""
        edits = []
        for name, indices in units.layers.items():
            located = self.located[name]
            sites = located.filter_sites if how.at == "filter" else located.unit_sites
            for site in sites:
                reference = self._reference(step, located, site, how)
                edits.append(edit(site, indices, how, reference))
        return edits

    def refresh(self) -> None:
        """Record again if the weights have changed since."""
        if self._weights != _weights(self.study.model):
            check_ready(self.study.model)
            self._means.clear()
            self._learn()  # a weight may be a new tensor object
            self.guard(self._record)

    @contextmanager
    def recorded(self, step: int) -> Iterator[None]:
        """Keep one chunk's record while the block runs, whatever the memory limit."""
        kept = self._tapes[step]
        if kept is None:
            self._tapes[step] = self._tape(self._inputs(self._chunks[step]))
        try:
            yield
        finally:
            self._tapes[step] = kept

    def tape(self, step: int) -> Tape | None:
        """One chunk's record, or None if it is not kept."""
        return self._tapes[step]

    def restart(self, step: int, edits: Sequence[Edit]) -> int:
        """The call from which the last kept pass of a chunk would have to be rerun."""
        tape = self._live[step] or self._tapes[step]
        return 0 if tape is None else tape.first_change(edits)

    def capture(self, step: int, site: Site) -> Tensor:
        """The activation that passes a site in one chunk."""
        return self._captured(self._raw, step, site)

    def _captured(self, run: Callable[..., Any], where: Any, site: Site) -> Tensor:
        seen: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            seen.append(value.clone())  # the model may later change it in place
            return value

        run(where, [Edit(site, keep)])
        return seen[0]

    def reference_for(self, name: str, k: int, how: Intervention, batch: int) -> Tensor | None:
        """What replaces the activation at a layer's k-th site for a batch of other inputs."""
        site = self.located[name].unit_sites[k]
        if how.needs == "mean":
            return self._mean(site)
        donors = self._order(how)[torch.arange(batch) % len(self.study)]
        return self._captured(self._whole, self.study.batch(donors), site)

    def _reference(
        self, step: int, located: Located, site: Site, how: Intervention
    ) -> Tensor | None:
        if how.at == "filter":
            return filter_reference(located, site, self.trace)
        if how.needs == "mean":
            return self._mean(site)
        if how.needs == "donor":
            return self._donor(step, site, how)
        return None

    def _order(self, how: Intervention) -> Tensor:
        generator = torch.Generator().manual_seed(getattr(how, "seed", 0))
        return torch.randperm(len(self.study), generator=generator)

    def _mean(self, site: Site) -> Tensor:
        if site not in self._means:
            total, count, rank = torch.zeros(()), 0, 0
            for activation in self._activations(site):  # one chunk in memory at a time
                value = activation.transpose(site.axis, -1)
                rank = value.dim()
                rows = value.reshape(-1, value.shape[-1]).double()
                total = total.to(rows.device) + rows.sum(0)
                count += len(rows)
            self._means[site] = along((total / count).float(), site, rank)
        return self._means[site]

    def _activations(self, site: Site) -> Iterator[Tensor]:
        """Of every example of the study, even if this replay runs only some of them."""
        if len(self.examples.unique()) == len(self.study):
            yield from (self.capture(step, site) for step in range(self.steps))
        else:
            for positions in split(len(self.study), self.size):
                yield self._captured(self._whole, self.study.batch(positions), site)

    def _donor(self, step: int, site: Site, how: Intervention) -> Tensor:
        key = (step, site, how)
        if key not in self._donors:
            if len(self._donors) >= 4 * self.steps:
                self._donors.clear()  # bounds the memory
            donors = self._order(how)[self.examples[self.chunk(step)]]
            self._donors[key] = self._captured(self._whole, self.study.batch(donors), site)
        return self._donors[key]

    def _kept_raw(self, step: int, edits: Sequence[Edit]) -> Any:
        tape = self._live[step] or self._tapes[step]
        # There must be room for the clean record, the kept one and the one being made.
        if tape is None or 3 * self._recorded_bytes > self.memory:
            return self._raw(step, edits)
        try:
            live = self._live[step] = tape.fork(edits)
        except DivergedError:
            return self._raw(step, edits)
        return live.raw

    def _raw(self, step: int, edits: Sequence[Edit]) -> Any:
        tape = self._tapes[step]
        try:
            if tape is not None:
                return tape.replay(edits)
            return self._whole(self._inputs(self._chunks[step]), edits)
        except DivergedError as error:
            raise RuntimeError(ANOTHER_PATH) from error

    def _whole(self, inputs: Inputs, edits: Sequence[Edit]) -> Any:
        with undisturbed(random=self.trace.random, counting=self.trace.counting):
            return run_edited(self.trace, edits, self.study.call(inputs))

    def _inputs(self, positions: Tensor) -> Inputs:
        return self.study.batch(self.examples[positions])

    def _learn(self) -> None:
        few = Chunked(min(2, len(self.examples)))

        def learn() -> Trace:
            first = _cloned(self._inputs(torch.arange(few.size)))
            traced = trace(self.study.model, self.study.call(first))
            changed = any(version(tensor) for tensor in tensors_in(first))
            self._inputs_change = changed and bool(traced.volatile)
            return traced

        self.trace = few.guard(learn)
        self.study.task.outputs(self.trace.raw)
        self.located = locate(self.study.model, self.trace)

    def _halved(self) -> None:
        self._donors.clear()
        self._tapes, self._live = [], []  # free before recording again
        self._record()

    def _record(self, progress: bool = False) -> None:
        self._weights = _weights(self.study.model)
        self._donors.clear()
        self._chunks = split(len(self.examples), self.size)
        self._tapes = []
        outputs, kept = [], 0
        for positions in slow(self._chunks, "recording", progress=progress):
            tape = self._tape(self._inputs(positions))
            outputs.append(self.study.task.outputs(tape.raw))
            kept += tape.bytes
            self._tapes.append(tape if kept <= self.memory // 2 else None)
        self._live = [None] * len(self._chunks)
        self._recorded_bytes = kept
        self.clean = torch.cat(outputs)

    def _tape(self, inputs: Inputs) -> Tape:
        def prepare() -> Callable[[], Any]:
            # Inputs changed through a view escape the record, so each pass gets its own copy.
            return self.study.call(_cloned(inputs) if self._inputs_change else inputs)

        try:
            return record(self.trace, prepare)
        except DivergedError as error:
            raise RuntimeError(
                "the model's forward pass takes different paths for different examples; memviz "
                "needs one path: split the study, or wrap the model so that it takes one."
            ) from error


def layers(study: Study) -> list[Layer]:
    """The layers of a study's model that have units, in the order the forward pass reaches them.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(2, 4), torch.zeros(2), {"test": range(2)})
    >>> [(layer.name, layer.units, layer.site) for layer in layers(study)]
    [('0', 8, 'linear > relu'), ('2', 3, 'linear')]
    """
    check_study(study)
    two = study.batch(torch.arange(min(2, len(study))))
    by_name = locate(study.model, trace(study.model, study.call(_cloned(two))))
    return [located.layer for located in by_name.values()]


def _cloned(inputs: Inputs) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs.clone()
    return {key: value.clone() for key, value in inputs.items()}


def _weights(model: nn.Module) -> list[tuple[int, int]]:
    tensors = [*model.parameters(), *model.buffers()]
    return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
