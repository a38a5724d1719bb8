"""Plain calls of a model, compared with each other and with the recorded ones.

A study whose plain calls disagree has no answer to measure, so it is refused, with the cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from memviz.checks import coded
from memviz.restored import random_kept, undisturbed
from memviz.study import Study
from memviz.tasks.task import Inputs

from .._paths import copied
from ._agree import agree, scale_of, slack
from ._state import attributes

_REPEATS = 64  # more calls of a model that draws random numbers: they may rarely show
_MOST = 256  # examples that are called again, evenly spread over the study
_COUPLED = "the model's answer for an example depends on the other examples in its batch"
_PIECES = (1, 2, 5, 13, 34)  # examples per call, in turn


def check_steady(study: Study, inputs: Inputs) -> None:
    """Refuse a model that answers the same inputs in another way each time.

    Raises
    ------
    ValueError
        Naming what changes: random numbers, a buffer, an attribute.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> check_steady(study, study.batch(torch.arange(2)))
    """
    held = attributes(study.model)
    calm, drawn_back = undisturbed(random=False, counting=study.model), random_kept()
    with calm, calm, drawn_back, drawn_back:
        answers = [_answer(study, inputs) for _ in range(3)]
        drawn = drawn_back.moved()
        if drawn:
            answers += [_answer(study, inputs) for _ in range(_REPEATS)]
        share = slack(study.model, answers[0])
        if all(agree(other, answers[0], share) for other in answers[1:]):
            return
        cause = _cause_of_change(study.model, drawn, calm.written(), held)
    raise ValueError(
        coded("E06", f"the model answers the same examples differently from call to call: {cause}.")
    )


def _cause_of_change(
    model: nn.Module, drawn: list[str], written: bool, held: dict[str, Any]
) -> str:
    if drawn:
        return (
            f"its forward pass draws random numbers from {' and '.join(drawn)} even in eval mode; "
            "switch them off there, as F.dropout(..., training=self.training) does"
        )
    now = attributes(model)
    changed = next((name for name in now if now[name] != held.get(name)), None)
    if written or changed is not None:
        where = "a buffer" if changed is None else f"{changed!r}"
        return (
            f"each call changes {where}, on which the next one depends; keep it fixed in eval mode"
        )
    return (
        "it draws from a random generator of its own, or depends on state outside the model; "
        "make it deterministic in eval mode"
    )


def _answer(study: Study, inputs: Inputs) -> Tensor:
    # A copy: the model may return a tensor that its next call changes.
    return study.task.outputs(study.call(copied(inputs))()).detach().clone()


class Inert(TorchFunctionMode):
    """Sees every call and changes nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Comparison:
    """The plain model beside recorded outputs of the same examples.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``
    clean : Tensor ``[n, ...]``
        What was recorded.
    chunk_of : callable
        The positions that were recorded together with a position.
    inside : float
        The largest value that a layer with weights computes.
    """

    study: Study
    examples: Tensor
    clean: Tensor
    chunk_of: Callable[[int], Tensor]
    inside: float

    def disturbed(self, positions: Tensor, most: int) -> str:
        """Why recorded outputs can't be used, or nothing where they agree with plain calls.

        Parameters
        ----------
        positions : int64 ``[k]``
            Which examples to compare, a sample of them if there are many.
        most : int
            Examples per call.

        Raises
        ------
        ValueError
            If plain calls disagree with each other, or with any call that is watched.
        """
        different = self._first_different(positions, most)
        if different is None:
            return ""
        position, piece = different
        chunk = self.chunk_of(position)
        alone = self._plain(torch.tensor([position]))[0]
        for batch in (piece, chunk):
            row = int((batch == position).nonzero()[0])
            whole = self._plain(batch)[row]
            if not self._agree(whole, alone):
                raise ValueError(self._coupling(position, batch, row))
        with Inert():
            watched = self._plain(chunk)[row]
        if not self._agree(watched, whole):
            raise ValueError(_watched_sentence(self.study.model))
        return "a recorded pass gives other outputs than the plain model"

    def _first_different(self, positions: Tensor, most: int) -> tuple[int, Tensor] | None:
        spread = torch.linspace(0, len(positions) - 1, min(len(positions), _MOST)).round().long()
        chosen = positions[spread.unique()]
        # In another order, so that every example meets other examples.
        chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))]
        start, turn = 0, 0
        while start < len(chosen):
            piece = chosen[start : start + min(most, _PIECES[turn % len(_PIECES)])]
            try:
                plain = self._plain(piece)
            except Exception as error:
                raise ValueError(self._fails_alone(len(piece), error)) from error
            for place, position in enumerate(piece.tolist()):
                if not self._agree(self.clean[position], plain[place]):
                    return int(position), piece
            start, turn = start + len(piece), turn + 1
        return None

    def _agree(self, given: Tensor, plain: Tensor) -> bool:
        share = slack(self.study.model, plain)
        return agree(given, plain, share, self._scale)

    @cached_property
    def _scale(self) -> float:
        # Once, not for each example: logits of a language model are millions of numbers.
        return scale_of(self.clean, self.inside)

    def _plain(self, positions: Tensor) -> Tensor:
        calm, drawn_back = undisturbed(random=False, counting=self.study.model), random_kept()
        with calm, calm, drawn_back, drawn_back:
            return _answer(self.study, self.study.batch(self.examples[positions]))

    def _coupling(self, position: int, chunk: Tensor, row: int) -> str:
        """The sentence for an answer that depends on the other examples of a batch."""
        norm = self._batch_norm()
        if norm:
            return coded("E07", f"{_COUPLED}: {norm}")
        name = self._first_coupled(position, chunk, row)
        where = f", first in module {name!r}" if name else ""
        return coded(
            "E07", f"{_COUPLED}{where}; wrap the model so that it treats each example alone."
        )

    def _fails_alone(self, examples: int, error: Exception) -> str:
        """The sentence for a model that can't be called with other numbers of examples."""
        norm = self._batch_norm()
        if norm:
            return coded("E07", f"{_COUPLED}: {norm}")
        first = str(error).strip().split("\n")[0]
        return (
            f"the model can't be called with {examples} of the examples ({first}); wrap it so that "
            "it takes any number of them."
        )

    def _batch_norm(self) -> str:
        norms = [
            name
            for name, module in self.study.model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
        ]
        if not norms:
            return ""
        return (
            f"batch norm {norms[0]!r} has no running statistics, so it normalizes by the batch "
            "even in eval mode; train it with track_running_stats=True."
        )

    def _first_coupled(self, position: int, chunk: Tensor, row: int) -> str:
        batched, single = (
            self._module_outputs(chunk),
            self._module_outputs(torch.tensor([position])),
        )
        for name, outputs in batched:
            alone = next((value for known, value in single if known == name), None)
            if alone is None or len(outputs) != len(chunk) or len(alone) != 1:
                continue
            if not agree(outputs[row], alone[0], slack(self.study.model, alone)):
                return name
        return ""

    def _module_outputs(self, positions: Tensor) -> list[tuple[str, Tensor]]:
        outputs: list[tuple[str, Tensor]] = []

        def keep(name: str, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim():
                outputs.append((name, output.detach().clone()))

        handles = [
            module.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out))
            for name, module in self.study.model.named_modules()
            if name and not isinstance(module, torch.jit.ScriptModule)
        ]
        try:
            self._plain(positions)
        finally:
            for handle in handles:
                handle.remove()
        return outputs


def _watched_sentence(model: nn.Module) -> str:
    start = "the model gives other outputs as soon as its calls are watched"
    fused = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
    if any(isinstance(module, fused) for module in model.modules()):
        return (
            f"{start}: plainly called, nn.TransformerEncoder takes torch's fused path, which fills "
            "padded positions with zeros; leave padded positions out of what you return, or build "
            "it with enable_nested_tensor=False."
        )
    return f"{start}; wrap it so that it does not depend on hooks or modes."
