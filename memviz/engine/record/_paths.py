"""The ways that a study's examples take through the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from memviz.checks import coded
from memviz.restored import undisturbed, version
from memviz.study import Study, private
from memviz.tasks import judged
from memviz.tasks.task import Inputs

from ._replay import DivergedError
from ._trace import Trace, Traced, trace
from ._values import memory, swap, tensors_in
from .places import Located, locate

R = TypeVar("R")

_HEAVY = 2**16  # bytes: shapes are enough of a tensor this large


@dataclass(frozen=True, eq=False)
class Path:
    """One way through the forward pass: its calls, and where the units are.

    ``inputs_change`` if the pass changes its inputs through a view: such a change escapes the
    record, so each pass gets its own copy.
    """

    trace: Trace
    located: dict[str, Located]
    inputs_change: bool


class Paths:
    """The paths met so far; a batch that takes none of them teaches a new one.

    Text models skip the attention mask where no example of a batch is padded, and mixtures of
    experts call only the experts that are needed: one study may take several paths.

    Attributes
    ----------
    known : list of Path
        The first is that of the study's first examples.
    located : dict of str to Located
        Every layer with units, by name, as the first path that reaches it has it.
    inside : float
        The largest value that a layer with weights computes: where it cancels, rounding stays.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> paths = Paths(study)
    >>> list(paths.learn(study.batch(torch.arange(2))).located)
    ['']
    """

    def __init__(self, study: Study) -> None:
        self.study = private(study)
        self.known: list[Path] = []
        self.inside = 0.0

    @property
    def located(self) -> dict[str, Located]:
        """Every layer with units, in the order in which the paths reach them."""
        places: dict[str, Located] = {}
        for path in self.known:
            places = (
                {**path.located, **places} if not places else {**places, **path.located, **places}
            )
        return places

    def learn(self, inputs: Inputs) -> Path:
        """Trace a batch, and keep its path.

        Raises
        ------
        ValueError
            If the model changes a tensor in a way that torch does not see.
        """
        if not self.known:
            # A model may make a table in its first call, which is then no call of its path.
            trace(self.study.model, self.study.call(copied(inputs)))
        given = copied(inputs)
        traced = trace(self.study.model, self.study.call(given))
        if traced.unseen:
            raise ValueError(
                f"the model changes the result of {traced.unseen!r} in place where torch can't see "
                "it, as through a NumPy array that shares its memory; change a copy instead."
            )
        if traced.random:
            self._check_draws(traced, inputs)
        families = {
            memory(tensor) for index in traced.volatile for tensor in traced.calls[index].inputs
        }
        entered = tensors_in(given)
        changed = any(version(tensor) or memory(tensor) in families for tensor in entered)
        self.inside = max(self.inside, _largest(traced))
        # Only what the task judges makes a layer an output layer.
        output = judged(self.study.task, traced.raw)
        located = locate(self.study.model, replace(traced, raw=output))
        if self.known:
            traced = _lightened(traced, self.study.model)
        path = Path(traced, located, changed and bool(traced.volatile))
        self.known.append(path)
        return path

    def _check_draws(self, traced: Trace, inputs: Inputs) -> None:
        """Refuse random numbers that reach the output, however rarely they show there."""
        drawn = traced.drawn()
        if not drawn:
            return
        calm = undisturbed(random=True)
        with calm, calm:
            torch.rand(1)  # another state: a model that seeds itself does not mind
            again = trace(self.study.model, self.study.call(copied(inputs))).drawn()
        states: dict[str, list[bytes]] = {}
        for name, state in again:
            states.setdefault(name, []).append(state)
        # What did not draw again was another thread's draw, in the same instant.
        random = next(
            (name for name, state in drawn if name in states and state not in states[name]), None
        )
        if random is not None:
            raise ValueError(
                coded(
                    "E06",
                    "the model answers the same examples differently from call to call: its "
                    "forward pass draws random numbers from torch even in eval mode, in "
                    f"{random!r}; switch them off there, as F.dropout(..., training=self.training) "
                    "does.",
                )
            )

    def follow(self, inputs: Inputs, run: Callable[[Path], R]) -> tuple[Path, R]:
        """Run a batch along the path that it takes.

        Parameters
        ----------
        inputs : Tensor or dict of Tensors
        run : callable
            Raises DivergedError where the path is another one.

        Raises
        ------
        RuntimeError
            If the same batch takes another path each time.
        """
        for path in list(self.known):
            try:
                return path, run(path)
            except DivergedError:
                continue
        path = self.learn(inputs)
        try:
            return path, run(path)
        except DivergedError as error:
            raise RuntimeError(
                "the model's forward pass makes other calls each time, for the same examples; "
                "memviz needs calls that repeat: wrap the model so that they do."
            ) from error

    def prepare(self, path: Path, inputs: Inputs) -> Callable[[], Any]:
        """The call of a batch along a path."""
        return self.study.call(copied(inputs) if path.inputs_change else inputs)

    def calm(self, path: Path) -> Any:
        """Without gradients; random state and buffers are put back if the path touches them."""
        return undisturbed(random=path.trace.random, counting=path.trace.counting)


def copied(inputs: Inputs) -> Inputs:
    """Inputs that the model may change in place.

    Examples
    --------
    >>> inputs = torch.zeros(2)
    >>> copied(inputs) is inputs
    False
    """
    if isinstance(inputs, Tensor):
        return inputs.clone()
    return {key: value.clone() for key, value in inputs.items()}


def _largest(traced: Trace) -> float:
    values = [tensor for call in traced.calls if call.weights for tensor in tensors_in(call.output)]
    sizes = [
        v.detach().abs().nan_to_num(0.0, 0.0).max()
        for v in values
        if v.is_floating_point() and v.numel()
    ]
    return max((float(largest) for largest in sizes), default=0.0)


def _lightened(traced: Trace, model: nn.Module) -> Trace:
    """The trace of a whole batch, with shapes in place of its large tensors."""
    kept = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    light = {
        id(tensor): torch.empty_like(tensor, device="meta")
        for call in traced.calls
        for tensor in (*call.inputs, *tensors_in(call.output))
        if id(tensor) not in kept and tensor.nbytes > _HEAVY
    }

    def lighter(call: Traced) -> Traced:
        args, kwargs = swap(call.args, light), swap(call.kwargs, light)
        inputs, output = swap(call.inputs, light), swap(call.output, light)
        return replace(call, args=args, kwargs=kwargs, inputs=inputs, output=output)

    return replace(traced, calls=[lighter(call) for call in traced.calls])
