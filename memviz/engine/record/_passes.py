"""The forward passes of a study's examples, chunk by chunk: recorded, run again, read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from memviz.checks import IndicesLike
from memviz.progress import slow
from memviz.study import Study, check_examples
from memviz.tasks.task import Inputs
from memviz.units import Layer, UnitSet

from ._chunks import Chunked, chunk_size, default_memory, split
from ._edits import check_donors, edit
from ._interventions import Intervention
from ._paths import Path, Paths
from ._replacements import Replacements
from ._replay import ANOTHER_PATH, DivergedError, Edit, PathError, Tape, record, run_edited
from ._trace import Trace
from .places import Located, Site, check_allowed


class Passes(Chunked):
    """Recorded passes of some examples, and the same passes with edits.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        All by default.
    memory : int, optional
        Bytes to use; half of it is for recorded results.

    Attributes
    ----------
    clean : Tensor ``[n, ...]``
        What the task takes from the model's outputs, with nothing ablated.
    why : str
        Why no pass may be recorded; empty if passes may.
    """

    def __init__(
        self, study: Study, examples: IndicesLike | None, memory: int | None, progress: bool
    ) -> None:
        self.study = study
        self.examples = check_examples(study, examples)
        self.memory = default_memory(study.device) if memory is None else memory
        if len(self.examples) == 0:
            raise ValueError("no examples to run; name at least one.")
        self.why = ""
        self._values = Replacements(len(study), self._activations, self._of_examples)
        self._learn()
        few = min(2, len(self.examples))
        largest = self.trace.largest // few
        self._each = self.trace.bytes // few  # bytes of an example's record
        weights = sum(parameter.nbytes for parameter in study.model.parameters())
        # With no memory for records, chunks have the default size.
        size = chunk_size(
            self._each,
            study.device,
            largest=largest,
            memory=self.memory or None,
            weights=weights,
        )
        super().__init__(min(size, len(self.examples)))
        self._tapes: list[Tape | None] = []
        self._live: list[Tape | None] = []
        self._paths_taken: list[Path] = []
        self._chunks: list[Tensor] = []
        self._recorded_bytes = 0
        self.guard(lambda: self._record(progress))

    @property
    def layers(self) -> list[Layer]:
        """The layers with units, in the order the forward pass reaches them."""
        return [located.layer for located in self.located.values()]

    @property
    def own_study(self) -> Study:
        """The study with the model that passes run: its parameters are shared, hooks are not."""
        return self._paths.study

    @property
    def located(self) -> dict[str, Located]:
        """Every layer with units, by name; ``place`` tells where it is in one chunk."""
        return self._paths.located

    @property
    def trace(self) -> Trace:
        """The forward pass of the first examples."""
        return self._paths.known[0].trace

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

    def run_whole(self, why: str) -> None:
        """Record no pass from now on, and say why."""
        self.why = why
        self._tapes, self._live = [None] * self.steps, [None] * self.steps

    def chunk(self, step: int) -> Tensor:
        """Positions in ``examples`` that a chunk covers, int64 ``[b]``."""
        return self._chunks[step]

    def place(self, step: int, name: str) -> Located | None:
        """Where a layer's units are in one chunk; None if its examples do not reach it."""
        return self._paths_taken[step].located.get(name)

    def trace_of(self, step: int) -> Trace:
        """The path that a chunk takes through the forward pass."""
        return self._paths_taken[step].trace

    def edits(self, step: int, units: UnitSet, how: Intervention) -> list[Edit]:
        """The changes that ablate these units in one chunk."""
        examples = self.examples[self._chunks[step]]
        return self._edits(self._paths_taken[step], examples, units, how)

    def _edits(self, path: Path, examples: Tensor, units: UnitSet, how: Intervention) -> list[Edit]:
        edits = []
        for name, indices in units.layers.items():
            located = path.located.get(name)
            if located is None:
                continue  # these examples do not reach the layer
            check_allowed(located, indices, how)
            sites = located.filter_sites if how.at == "filter" else located.unit_sites
            for k, site in enumerate(sites):
                value = self._values.value(path, name, k, how, examples)
                edits.append(edit(site, indices, how, value))
        return edits

    @contextmanager
    def recorded(self, step: int) -> Iterator[None]:
        """Keep one chunk's record while the block runs, whatever the memory limit."""
        kept = self._tapes[step]
        if kept is None and not self.why:
            _, self._tapes[step] = self._follow(self._inputs(self._chunks[step]))
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
        return _captured(lambda edits: self._raw(step, edits), site)

    def reference_for(self, name: str, k: int, how: Intervention, batch: int) -> Tensor | None:
        """What replaces the activation at a layer's k-th site for a batch of other inputs."""
        if how.needs == "mean":
            return self._values.mean(name, k)
        check_donors(self.located[name])
        examples = torch.arange(batch) % len(self.study)
        return self._values.donors(name, k, how, examples)

    def _activations(self, name: str, k: int) -> Iterator[tuple[Tensor, int]]:
        """Of every example of the study, even if this replay runs only some of them."""
        if len(self.examples.unique()) == len(self.study):
            for step, path in enumerate(self._paths_taken):
                site = _site(path, name, k)
                if site is not None:
                    yield self.capture(step, site), site.axis
            return
        for positions in split(len(self.study), self.size):
            captured = self._follow_site(positions, name, k)
            if captured is not None:
                yield captured

    def _of_examples(self, examples: Tensor, name: str, k: int) -> Tensor:
        captured = self._follow_site(examples, name, k)
        if captured is None:
            raise ValueError(
                f"some examples do not reach layer {name!r}, so they give no activations to "
                "resample; use 'zero' or 'mean'."
            )
        return captured[0]

    def _follow_site(self, examples: Tensor, name: str, k: int) -> tuple[Tensor, int] | None:
        inputs = self.study.batch(examples)

        def run(path: Path) -> tuple[Tensor, int] | None:
            site = _site(path, name, k)
            if site is None:
                self._whole(path, inputs, [], exactly=True)
                return None
            return _captured(lambda edits: self._whole(path, inputs, edits), site), site.axis

        return self._paths.follow(inputs, run)[1]

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
            inputs = self._inputs(self._chunks[step])
            return self._whole(self._paths_taken[step], inputs, edits)
        except DivergedError as error:
            raise PathError(ANOTHER_PATH) from error

    def _whole(
        self, path: Path, inputs: Inputs, edits: Sequence[Edit], *, exactly: bool = False
    ) -> Any:
        calm = self._paths.calm(path)
        with calm, calm:
            forward = self._paths.prepare(path, inputs)
            return run_edited(path.trace, edits, forward, exactly=exactly)

    def _inputs(self, positions: Tensor) -> Inputs:
        return self.study.batch(self.examples[positions])

    def _learn(self) -> None:
        """Trace the first examples."""
        self._paths = Paths(self.study)
        few = Chunked(min(2, len(self.examples)))
        few.guard(lambda: self._meet(self._inputs(torch.arange(few.size))))
        self.study.task.outputs(self.trace.raw)

    def _meet(self, inputs: Inputs) -> None:
        self._paths.learn(inputs)

    def _halved(self) -> None:
        self._values.forget(means=False)
        self._tapes, self._live = [], []  # free before recording again
        self._record()

    def _record(self, progress: bool = False) -> None:
        self._values.forget(means=False)
        self._chunks = split(len(self.examples), self.size)
        self._values.most = 4 * len(self._chunks)
        self._tapes, self._paths_taken = [], []
        outputs, kept = [], 0
        # Where records of a quarter do not fit, none is kept: it would save next to nothing.
        scarce = self._each * len(self.examples) > 2 * self.memory
        for positions in slow(self._chunks, "recording", progress=progress):
            path, tape, raw = self._pass(
                self._inputs(positions), whole=scarce or kept > self.memory // 2
            )
            answer = self.study.task.outputs(raw)
            # A plain call may return a tensor that the model's next call changes.
            outputs.append(answer.clone() if tape is None else _alone(answer))
            if len(outputs[-1]) != len(positions):
                raise ValueError(
                    f"the model returned {len(outputs[-1])} rows for {len(positions)} examples; "
                    "memviz needs one row per example: wrap the model so that it returns one."
                )
            kept += tape.bytes if tape is not None else self._each * len(positions)
            self._tapes.append(None if scarce or kept > self.memory // 2 else tape)
            self._paths_taken.append(path)
        self._live = [None] * len(self._chunks)
        self._recorded_bytes = kept
        self.clean = torch.cat(outputs)

    def _pass(self, inputs: Inputs, *, whole: bool) -> tuple[Path, Tape | None, Any]:
        """Recorded, or whole; of each path one is recorded, to be compared with plain calls."""
        if self.why or whole:
            path, raw = self._paths.follow(
                inputs, lambda path: self._whole(path, inputs, [], exactly=True)
            )
            if self.why or path in self._paths_taken:
                return path, None, raw
        path, tape = self._follow(inputs)
        return path, tape, tape.raw

    def _follow(self, inputs: Inputs) -> tuple[Path, Tape]:
        return self._paths.follow(
            inputs, lambda path: record(path.trace, lambda: self._paths.prepare(path, inputs))
        )


def _site(path: Path, name: str, k: int) -> Site | None:
    located = path.located.get(name)
    return located.unit_sites[k] if located is not None and k < len(located.unit_sites) else None


def _alone(outputs: Tensor) -> Tensor:
    """The outputs without the rest of what they are a view of, which would be kept with them."""
    if outputs.layout != torch.strided or outputs.is_meta:
        return outputs
    return outputs.clone() if outputs.untyped_storage().nbytes() > outputs.nbytes else outputs


def _captured(run: Callable[[list[Edit]], Any], site: Site) -> Tensor:
    seen: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value.clone())  # the model may later change it in place
        return value

    run([Edit(site, keep)])
    return seen[0]
