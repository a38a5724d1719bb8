"""Conductance: integrals along the straight path from a baseline of zero to the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ._methods import nodes
from ._outputs import Outputs
from ._result import Completeness


class Path:
    """The path of one batch: its points, and the logit's change along it.

    Parameters
    ----------
    outputs : Outputs
    given : tuple of Tensor
        The values at the end of the path, ``[n, ...]``, and the other inputs.
    targets : int64 ``[n]``
    rule, n_steps
        As for :func:`memviz.probes.attribution.attribute_layers`.
    """

    def __init__(
        self, outputs: Outputs, given: Sequence[Tensor], targets: Tensor, rule: str, n_steps: int
    ) -> None:
        self.outputs, self.targets = outputs, targets
        self.values, self.others = given[0].detach(), tuple(given[1:])
        self.rule, self.n_steps = rule, n_steps

    def logits(self, values: Tensor) -> Tensor:
        """The targets' logits, ``[n]``."""
        outputs: Tensor = self.outputs(values, *self.others)
        return outputs.gather(1, self.targets[:, None])[:, 0]

    def inputs(self) -> tuple[Tensor, Completeness]:
        """Integrated gradients of the values, ``[n, ...]``."""
        total = torch.zeros_like(self.values, dtype=torch.float64)
        for point, weight in self._points():
            (slope,) = torch.autograd.grad(self.logits(point).sum(), point)
            total += weight * (slope * self.values)
        return total.to(self.values.dtype), self.missed(total.flatten(1).sum(1))

    def layers(
        self, modules: Sequence[nn.Module], read: Callable[[Tensor, int], Tensor]
    ) -> tuple[list[Tensor], Completeness]:
        """Conductance of each value of these modules' outputs, exact at each point.

        ``read`` maps the output ``[n, ...]`` of the k-th module to what is wanted of it, before
        the sum over the module's calls.
        """
        totals: list[Tensor | None] = [None] * len(modules)
        reached = torch.zeros(len(self.values), dtype=torch.float64, device=self.values.device)
        for point, weight in self._points():
            with _recorded(modules) as calls:
                logit = self.logits(point).sum()
            check_read(calls)
            made = [output for outputs in calls for output in outputs]
            slope, *slopes = torch.autograd.grad(
                logit, [point, *made], retain_graph=True, allow_unused=True, materialize_grads=True
            )
            along = _along(made, point, self.values)
            reached += weight * (slope * self.values).flatten(1).sum(1).double()
            parts = iter(zip(slopes, along, strict=True))
            for k, outputs in enumerate(calls):
                for s, a in (next(parts) for _ in outputs):
                    part = weight * read(s * a, k)
                    before = totals[k]
                    totals[k] = part if before is None else before + part
        return [total for total in totals if total is not None], self.missed(reached)

    def unit(
        self, module: nn.Module, activation: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Completeness]:
        """Conductance of each input value ``[n, ...]`` through one unit.

        ``activation`` picks the unit's positions from the module's output.
        """
        total = torch.zeros_like(self.values, dtype=torch.float64)
        reached = total.flatten(1).sum(1)
        for point, weight in self._points():
            with _recorded([module]) as calls:
                logit = self.logits(point).sum()
            check_read(calls)
            made = calls[0]
            slope, *slopes = torch.autograd.grad(
                logit, [point, *made], retain_graph=True, allow_unused=True, materialize_grads=True
            )
            reached += weight * (slope * self.values).flatten(1).sum(1).double()
            through = torch.stack([
                (activation(slope) * activation(output)).sum()
                for slope, output in zip(slopes, made, strict=True)
            ]).sum()  # fmt: skip
            (slope,) = torch.autograd.grad(
                through, point, allow_unused=True, materialize_grads=True
            )
            total += weight * (slope * self.values).double()
        return total.to(self.values.dtype), self.missed(reached)

    @torch.no_grad()
    def missed_by_layer(self, module: nn.Module, values: Tensor) -> Completeness:
        """How far a layer's integrated gradients miss what replacing its output changes."""
        with _recorded([module]) as calls:
            self.logits(0 * self.values)
        handle = module.register_forward_hook(lambda _m, _i, _o: calls[0][0])
        try:
            without = self.logits(self.values).double()
        finally:
            handle.remove()
        change = self.logits(self.values).double() - without
        return self._off(values.reshape(len(change), -1).sum(1, dtype=torch.float64), change)

    @torch.no_grad()
    def missed_by_unit(
        self, module: nn.Module, activation: Callable[[Tensor], Tensor], values: Tensor
    ) -> Completeness:
        """How far a unit's integrated gradients miss the change of its activation."""
        with _recorded([module]) as calls:
            self.logits(self.values)
            self.logits(0 * self.values)
        after, before = (activation(output).double() for output in calls[0])
        return self._off(values.flatten(1).sum(1, dtype=torch.float64), after - before)

    def _points(self) -> Iterator[tuple[Tensor, float]]:
        with torch.enable_grad():
            for alpha, weight in nodes(self.rule, self.n_steps):
                yield (alpha * self.values).requires_grad_(), weight

    @torch.no_grad()
    def missed(self, total: Tensor, how: str = "") -> Completeness:
        """How far totals ``[n]`` miss the logit's change from a baseline of zero."""
        change = self.logits(self.values).double() - self.logits(0 * self.values).double()
        return self._off(total, change, how)

    def _off(self, total: Tensor, change: Tensor, how: str = "") -> Completeness:
        words = how or f"{self.rule}, {self.n_steps} steps"
        return Completeness((total - change).cpu().numpy(), change.cpu().numpy(), words)


def _along(made: Sequence[Tensor], point: Tensor, step: Tensor) -> Sequence[Tensor]:
    """How fast each output changes along the path, from two backward passes."""
    # J v is the derivative with respect to u of the inner product of Jᵀ u and v.
    seeds = [torch.zeros_like(output, requires_grad=True) for output in made]
    (back,) = torch.autograd.grad(
        made, point, seeds, create_graph=True, allow_unused=True, materialize_grads=True
    )
    if not back.requires_grad:
        return [torch.zeros_like(output) for output in made]
    return torch.autograd.grad(
        (back * step).sum(), seeds, allow_unused=True, materialize_grads=True
    )


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """The outputs of each module's calls, as the rest of the model reads them."""
    calls: list[list[Tensor]] = [[] for _ in modules]

    def watch(place: int, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def keep(_: nn.Module, args: object, output: Tensor) -> Tensor:
            # With frozen weights, an output that no path reaches needs no gradient.
            needs = torch.is_grad_enabled() and not output.requires_grad
            kept = output.requires_grad_() if needs else output
            calls[place].append(kept)
            return kept.clone()  # a later in-place call must not change what is kept

        return module.register_forward_hook(keep)

    handles = [watch(place, module) for place, module in enumerate(modules)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def check_read(calls: Sequence[Sequence[Tensor]]) -> None:
    """Refuse a layer whose module was not called.

    Raises
    ------
    ValueError
    """
    if not all(calls):
        raise ValueError(
            "the model uses a layer's weight without calling the layer's module, so attribution "
            "cannot read it; use sweep() or estimate()."
        )
