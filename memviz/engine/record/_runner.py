"""A study's forward passes, recorded, and their outputs with any units ablated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from memviz.progress import slow
from memviz.study import Study, check_ready, check_study
from memviz.tasks.task import Inputs
from memviz.units import Layer, UnitSet, UnitsLike

from ._chunks import Chunked, chunk_size, default_memory, split
from ._edits import check_donors, edit
from ._interventions import Intervention, intervention
from ._paths import Path, Paths
from ._replacements import Replacements
from ._replay import ANOTHER_PATH, DivergedError, Edit, Tape, record, run_edited
from ._trace import Trace
from .places import Located, Site, check_located
from .plain import (
    Comparison,
    Fingerprint,
    Reference,
    check_steady,
    fingerprint,
    largest_error,
    size,
    slack,
)

# Examples that are run plainly beside each engine, and how many sets of layers to compare.
_FEW = 6
SPANNING = 8
# Which examples of a study were compared with plain calls, with which weights.
_COMPARED: WeakKeyDictionary[Study, tuple[Fingerprint, Tensor]] = WeakKeyDictionary()


class CancelledError(RuntimeError):
    """The work was cancelled between two steps; nothing has changed."""


class Replay(Chunked):
    """The engine on one study: clean outputs, and outputs with units ablated.

    When it is made, and again when the weights change, it compares itself with plain calls of the
    model; each layer's ablation is compared with plain module hooks before it is first answered.

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
    why : str
        Why no pass may be recorded, where recorded ones disagree with the plain model.

    Raises
    ------
    ValueError
        If plain calls of the model disagree with each other, with the cause.

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
        self.why = ""
        self._values = Replacements(len(study), self._activations, self._of_examples)
        self._confirmed: set[tuple[tuple[str, ...], Intervention]] = set()
        self._plain: tuple[int, Tensor, Reference] | None = None
        self._learn()
        few = min(2, len(self.examples))
        recorded, largest = self.trace.bytes // few, self.trace.largest // few
        # With no memory for records, chunks have the default size.
        size = chunk_size(recorded, study.device, largest=largest, memory=self.memory or None)
        super().__init__(min(size, len(self.examples)))
        self._tapes: list[Tape | None] = []
        self._live: list[Tape | None] = []
        self._paths_taken: list[Path] = []
        self._chunks: list[Tensor] = []
        self._recorded_bytes = 0
        self.guard(lambda: self._record(progress=True))
        self.guard(self._compare)

    @property
    def layers(self) -> list[Layer]:
        """The layers with units, in the order the forward pass reaches them."""
        return [located.layer for located in self.located.values()]

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

    def check(self, units: UnitsLike) -> UnitSet:
        """The units as a set, once every one of them is known to exist.

        Raises
        ------
        ValueError
            If a layer has no units, or the forward pass does not reach it.
        KeyError, IndexError
            If there is no such layer or unit.
        """
        return check_located(self.study.model, self.trace, self.located, units)

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
            self.confirm(0, list(chosen.layers), how)
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

    def confirm(self, step: int, layers: Sequence[str], how: Intervention) -> None:
        """Make sure that this replay ablates these layers as plain module hooks do.

        A record that does not is given up: every pass then runs whole.

        Raises
        ------
        ValueError
            If a whole pass disagrees with the hooks too.
        """
        key = (tuple(layers), how)
        spanning = sum(len(names) > 1 for names, _ in self._confirmed)
        if key in self._confirmed or (len(layers) > 1 and spanning >= SPANNING):
            return

        def answer(units: UnitSet) -> Tensor:
            return self.chunk_outputs(step, units, how)

        why = self.disagreement(step, layers, how, answer)
        if why and not self.why and self.tape(step) is not None:
            self.run_whole(f"replay is {why}")
            why = self.disagreement(step, layers, how, answer)
        if why:
            raise ValueError(
                f"memviz can't ablate {', '.join(layers)} in this model: its answer is {why}; "
                "leave the layer out, or wrap the model so that the layer's output passes through "
                "a module."
            )
        self._confirmed.add(key)

    def disagreement(
        self,
        step: int,
        layers: Sequence[str],
        how: Intervention,
        answer: Callable[[UnitSet], Tensor],
    ) -> str:
        """How far an engine's answers are from those of plain hooks; empty if they agree.

        The busiest unit of each layer, the quietest and the first are ablated, in a few examples
        of the chunk, whichever units were asked for.
        """
        rows, reference = self._reference(step)
        share = slack(self.study.model, self.clean)
        for units in reference.units(layers):
            plain = reference.outputs(units, how)
            given = answer(units)
            if len(given) != len(self._chunks[step]):
                return f"of {len(given)} rows for {len(self._chunks[step])} examples"
            error = largest_error(given[rows], plain)
            # A large constant makes large outputs, and rounding grows with them.
            scale = max(size(self.clean), size(plain))
            if not error <= share * scale:
                return f"off by {error:.1e} of {scale:.1e} from a plain hook on {units}"
        return ""

    def compares_all(self, step: int) -> bool:
        """Whether ``disagreement`` looks at every example of a chunk."""
        return len(self._chunks[step]) <= _FEW

    def run_whole(self, why: str) -> None:
        """Record no pass from now on, and say why."""
        self.why = why
        self._tapes, self._live = [None] * self.steps, [None] * self.steps

    def _reference(self, step: int) -> tuple[Tensor, Reference]:
        """Rows of a few examples of a chunk, and what the plain model answers for them."""
        if self._plain is None or self._plain[0] != step:
            chunk = self._chunks[step]
            rows = torch.linspace(0, len(chunk) - 1, min(len(chunk), _FEW)).round().long()
            examples = self.examples[chunk[rows]]
            self._plain = step, rows, Reference(self.study, self._paths, examples, self._edits)
        return self._plain[1], self._plain[2]

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
            sites = located.filter_sites if how.at == "filter" else located.unit_sites
            for k, site in enumerate(sites):
                value = self._values.value(path, name, k, how, examples)
                edits.append(edit(site, indices, how, value))
        return edits

    def refresh(self) -> None:
        """Record again if the weights have changed since."""
        if self._weights != fingerprint(self.study.model):
            check_ready(self.study.model)
            self.why = ""
            self._values.forget()
            self._learn()  # a weight may be a new tensor object
            self.guard(self._record)
            self.guard(self._compare)

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
            raise RuntimeError(ANOTHER_PATH) from error

    def _whole(
        self, path: Path, inputs: Inputs, edits: Sequence[Edit], *, exactly: bool = False
    ) -> Any:
        with self._paths.calm(path):
            forward = self._paths.prepare(path, inputs)
            return run_edited(path.trace, edits, forward, exactly=exactly)

    def _inputs(self, positions: Tensor) -> Inputs:
        return self.study.batch(self.examples[positions])

    def _learn(self) -> None:
        """Trace the first examples, once plain calls are known to repeat."""
        self._paths = Paths(self.study)
        self._weights = fingerprint(self.study.model)
        self._confirmed.clear()
        self._plain = None
        few = Chunked(min(2, len(self.examples)))

        def learn() -> None:
            inputs = self._inputs(torch.arange(few.size))
            if self._uncompared().any():
                check_steady(self.study, inputs)
            self._paths.learn(inputs)

        few.guard(learn)
        self.study.task.outputs(self.trace.raw)

    def _uncompared(self) -> Tensor:
        """Which examples were not yet compared with plain calls, bool ``[n]``."""
        weights, compared = _COMPARED.get(self.study, (None, None))
        if compared is None or weights != self._weights:
            return torch.ones(len(self.examples), dtype=torch.bool)
        return ~compared[self.examples]

    def _compare(self) -> None:
        """Compare the recorded outputs with plain calls, of other batches."""
        positions = self._uncompared().nonzero()[:, 0]
        if not len(positions):
            return
        for _ in range(2):  # recorded passes, then whole ones
            comparison = Comparison(self.study, self.examples, self.clean, self._chunk_with)
            why = comparison.disturbed(positions, self.size)
            if not why:
                break
            if self.why:
                raise ValueError(f"memviz can't run this model: {why}.")
            self.run_whole(why)
            self._record()
        weights, compared = _COMPARED.get(self.study, (None, None))
        if compared is None or weights != self._weights:
            compared = torch.zeros(len(self.study), dtype=torch.bool)
        compared[self.examples] = True
        _COMPARED[self.study] = self._weights, compared

    def _chunk_with(self, position: int) -> Tensor:
        return next(chunk for chunk in self._chunks if chunk[0] <= position <= chunk[-1])

    def _halved(self) -> None:
        self._values.forget(means=False)
        self._tapes, self._live = [], []  # free before recording again
        self._record()

    def _record(self, progress: bool = False) -> None:
        self._values.forget(means=False)
        self._plain = None
        self._chunks = split(len(self.examples), self.size)
        self._values.most = 4 * len(self._chunks)
        self._tapes, self._paths_taken = [], []
        outputs, kept = [], 0
        for positions in slow(self._chunks, "recording", progress=progress):
            path, tape, raw = self._pass(self._inputs(positions))
            outputs.append(self.study.task.outputs(raw))
            if len(outputs[-1]) != len(positions):
                raise ValueError(
                    f"the model returned {len(outputs[-1])} rows for {len(positions)} examples; "
                    "memviz needs one row per example: wrap the model so that it returns one."
                )
            kept += tape.bytes if tape is not None else 0
            self._tapes.append(tape if kept <= self.memory // 2 else None)
            self._paths_taken.append(path)
        self._live = [None] * len(self._chunks)
        self._recorded_bytes = kept
        self.clean = torch.cat(outputs)

    def _pass(self, inputs: Inputs) -> tuple[Path, Tape | None, Any]:
        if self.why:
            path, raw = self._paths.follow(
                inputs, lambda path: self._whole(path, inputs, [], exactly=True)
            )
            return path, None, raw
        path, tape = self._follow(inputs)
        return path, tape, tape.raw

    def _follow(self, inputs: Inputs) -> tuple[Path, Tape]:
        return self._paths.follow(
            inputs, lambda path: record(path.trace, lambda: self._paths.prepare(path, inputs))
        )


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
    paths = Paths(study)
    paths.learn(study.batch(torch.arange(min(2, len(study)))))
    return [located.layer for located in paths.located.values()]


def _site(path: Path, name: str, k: int) -> Site | None:
    located = path.located.get(name)
    return located.unit_sites[k] if located is not None and k < len(located.unit_sites) else None


def _captured(run: Callable[[list[Edit]], Any], site: Site) -> Tensor:
    seen: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value.clone())  # the model may later change it in place
        return value

    run([Edit(site, keep)])
    return seen[0]
