"""A study's forward passes, recorded, and their outputs with any units ablated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from memviz.checks import IndicesLike, checked
from memviz.study import Study, check_ready, check_study
from memviz.tasks.task import Inputs
from memviz.units import Layer, UnitSet, UnitsLike

from ._interventions import Intervention, intervention
from ._passes import Passes
from ._paths import Paths
from ._replay import PathError
from .places import check_located
from .plain import (
    Comparison,
    Fingerprint,
    Reference,
    check_steady,
    fingerprint,
    largest_error,
    scale_of,
    slack,
)

# Examples that are run plainly beside each engine, and how many sets of layers to compare.
_FEW = 6
SPANNING = 8
_CLOSE = 1e-3  # of the largest output: bfloat16 and half do not tell answers apart so well
# Which examples of a study were compared with plain calls, with which weights.
_COMPARED: WeakKeyDictionary[Study, tuple[Fingerprint, Tensor]] = WeakKeyDictionary()


class CancelledError(RuntimeError):
    """The work was cancelled between two steps; nothing has changed."""


class Replay(Passes):
    """The engine on one study: clean outputs, and outputs with units ablated.

    When it is made, and again when the weights change, it compares itself with plain calls of the
    model; each layer's ablation is compared with plain module hooks before it is first answered.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        Which examples to run, all by default.
    memory : int, optional
        Bytes to use; by default a twelfth of what the process may take, at most 1 GiB, or half of a
        GPU's free memory. Half of it is for recorded results; if they do not fit, passes are run
        whole or recorded again each time.
    progress : bool
        Show a progress bar where recording takes longer than a second.

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
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> Replay(study).outputs("0:3,5").shape
    torch.Size([6, 3])
    """

    @checked
    def __init__(
        self,
        study: Study,
        examples: IndicesLike | None = None,
        *,
        memory: int | None = None,
        progress: bool = True,
    ) -> None:
        check_study(study)
        check_ready(study.model)
        self._confirmed: set[tuple[tuple[str, ...], Intervention]] = set()
        self._plain: tuple[int, Tensor, Reference] | None = None
        super().__init__(study, examples, memory, progress)
        self.guard(self._compare)

    def check(self, units: UnitsLike) -> UnitSet:
        """The units as a set, once every one of them is known to exist.

        Raises
        ------
        ValueError
            If a layer has no units, or the forward pass does not reach it.
        KeyError, IndexError
            If there is no such layer or unit.
        """
        return check_located(self.own_study.model, self.trace, self.located, units)

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
        for units in reference.units(layers, how):
            try:
                plain, given = reference.outputs(units, how), answer(units)
            except PathError:
                continue  # these units lead elsewhere; those that were asked for may not
            if len(given) != len(self._chunks[step]):
                return f"of {len(given)} rows for {len(self._chunks[step])} examples"
            error = largest_error(given[rows], plain)
            # A large constant makes large outputs, and rounding grows with them.
            scale = max(scale_of(o, self._paths.inside) for o in (self.clean, plain))
            if not error <= share * scale:
                return f"off by {error:.1e} of {scale:.1e} from a plain hook on {units}"
        return ""

    @contextmanager
    def recorded(self, step: int) -> Iterator[None]:
        """Keep one chunk's record while the block runs, whatever the memory limit.

        Raises
        ------
        ValueError
            If the record is new and its outputs are not those of the plain pass.
        """
        new = self.tape(step) is None
        with super().recorded(step):
            tape = self.tape(step)
            if new and tape is not None:
                self._check_same(self.study.task.outputs(tape.raw), self.clean[self._chunks[step]])
            yield

    def _check_same(self, recorded: Tensor, plain: Tensor) -> None:
        error, scale = largest_error(recorded, plain), scale_of(self.clean, self._paths.inside)
        if not error <= slack(self.study.model, self.clean) * scale:
            raise ValueError(
                f"a recorded pass is off by {error:.1e} of {scale:.1e} from a plain one; give more "
                "memory, or fewer examples, so that all passes are recorded and compared."
            )

    def compares_all(self, step: int) -> bool:
        """Whether ``disagreement`` looks at every example of a chunk, and closely."""
        close = slack(self.study.model, self.clean) < _CLOSE
        return close and len(self._chunks[step]) <= _FEW

    def _reference(self, step: int) -> tuple[Tensor, Reference]:
        """Rows of a few examples of a chunk, and what the plain model answers for them."""
        if self._plain is None or self._plain[0] != step:
            chunk = self._chunks[step]
            rows = torch.linspace(0, len(chunk) - 1, min(len(chunk), _FEW)).round().long()
            examples = self.examples[chunk[rows]]
            self._plain = step, rows, Reference(self._paths, examples, self._edits)
        return self._plain[1], self._plain[2]

    def refresh(self) -> None:
        """Record again if the weights have changed since."""
        if self._weights != fingerprint(self.study.model):
            check_ready(self.study.model)
            self.why = ""
            self._values.forget()
            self._learn()  # a weight may be a new tensor object
            self.guard(self._record)
            self.guard(self._compare)

    def _learn(self) -> None:
        self._weights = fingerprint(self.study.model)
        self._confirmed.clear()
        super()._learn()

    def _meet(self, inputs: Inputs) -> None:
        # First: a model may make a table in its first call, which is then not a call of its pass.
        if self._uncompared().any():
            check_steady(self.own_study, inputs)
        super()._meet(inputs)

    def _record(self, progress: bool = False) -> None:
        self._plain = None
        super()._record(progress)

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
            comparison = Comparison(
                self.own_study, self.examples, self.clean, self._chunk_with, self._paths.inside
            )
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


def layers(study: Study) -> list[Layer]:
    """The layers of a study's model that have units, in the order the forward pass reaches them.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(2, 4), torch.zeros(2), {"test": range(2)})
    >>> [(layer.name, layer.units, layer.site) for layer in layers(study)]
    [('0', 8, 'linear > relu'), ('2', 3, 'linear')]
    """
    check_study(study)
    paths = Paths(study)
    paths.learn(study.batch(torch.arange(min(2, len(study)))))
    return [located.layer for located in paths.located.values()]
