"""Squared gradient norms of the examples of a chunk, from one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from memviz.engine.record import chunk_size, trace
from memviz.restored import undisturbed
from memviz.study import Study, private

from ._calls import ParameterCalls, Seen, Source, Use
from ._parts import Part
from ._rules import NotCoveredError, parts

Squares = dict[str, Tensor]  # squared norms [n] by parameter
Value = Callable[[Tensor, Tensor], Tensor]


class GhostNorms:
    """Squared gradient norms of any examples, by rules that are checked on a few of them first."""

    def __init__(self, study: Study, examples: Tensor, labels: Tensor) -> None:
        self.study, self.examples, self.labels = private(study), examples, labels
        named = self.study.model.named_parameters()
        self.parameters = {name: p for name, p in named if p.requires_grad}
        if not self.parameters:
            raise ValueError(
                "no parameter of the model requires a gradient; call model.requires_grad_(True)."
            )
        # Two examples to check the rules on, with different labels if there are any.
        firsts = labels.flatten(1)[:, 0] if labels.dim() > 1 else labels
        pair = torch.stack([firsts.argmin(), firsts.argmax()])
        if pair[0] == pair[1]:
            pair[1] = len(labels) - 1 - pair[0]
        seen = trace(self.study.model, self.study.call(study.batch(examples[pair[:1]])))
        self.random, self.counting = seen.random, seen.counting
        # Twice: each recorded result has a gradient of its own size.
        size = chunk_size(2 * seen.bytes, study.device, largest=2 * seen.largest)
        self.size = min(size, len(examples))
        self.one_by_one: set[str] = set()
        self.interleaved: set[int] = set()
        self.seen: dict[int, Sequence[Seen]] = {}
        self._check(pair)

    def squares(self, positions: Tensor) -> Tensor:
        """Squared norms of a chunk, float64 ``[parameters, n]``."""
        calm = undisturbed(random=self.random, counting=self.counting)
        with calm, calm:
            calls, outputs = self._pass(positions)
            slopes = _slopes(calls, outputs, positions, self._loss)
            squares = self._ghost(calls, slopes) if calls.alike else {}
            rest = [name for name in self.parameters if name not in squares]
            if rest:
                self.one_by_one.update(rest)
                squares |= self._alone(rest, positions, self._loss)
        return torch.stack([squares[name] for name in self.parameters])

    def _loss(self, outputs: Tensor, positions: Tensor) -> Tensor:
        return self.study.task.loss(outputs, self.labels[positions].to(outputs.device))

    def _outputs(self, positions: Tensor) -> Tensor:
        call = self.study.call(self.study.batch(self.examples[positions]))
        outputs = self.study.task.outputs(call())
        if outputs.shape[:1] != positions.shape:
            raise ValueError(
                f"a batch of {len(positions)} has outputs of shape {tuple(outputs.shape)}; the "
                "task must return one row per example, even for a batch of one (squeeze() would "
                "drop that row)."
            )
        return outputs

    def _pass(self, positions: Tensor) -> tuple[ParameterCalls, Tensor]:
        """A forward pass, and where it uses the parameters."""
        n, model = len(positions), self.study.model
        others = next((size for size in self.seen if size != n), 0)
        frozen = [p for p in model.parameters() if not p.requires_grad]
        calls = ParameterCalls(
            self.parameters, [*model.buffers(), *frozen], n, self.seen.get(others, ()), others
        )
        with torch.enable_grad(), calls:
            outputs = self._outputs(positions)
        if not outputs.requires_grad:
            raise ValueError(
                "the model's outputs carry no gradient; remove torch.no_grad or detach from its "
                "forward pass."
            )
        return calls, outputs

    def _ghost(self, calls: ParameterCalls, slopes: Sequence[Tensor | None]) -> Squares:
        """Squared norms ``[n]`` of the parameters that rules cover."""
        by_source: dict[int, tuple[Source, list[Part]]] = {}
        lost = set(self.one_by_one)
        for use, gradient in zip(calls.uses, slopes, strict=True):
            if gradient is None or all(source.of <= lost for source in use.sources):
                continue
            try:
                for source, part in parts(self._laid_out(use), gradient):
                    by_source.setdefault(id(source.tensor), (source, []))[1].append(part)
            except NotCoveredError:
                lost.update(*(source.of for source in use.sources))
        # Parameters with the same sources share one backward pass per example.
        groups: dict[tuple[int, ...], list[str]] = {}
        for name in self.parameters:
            if name not in lost:
                keys = tuple(key for key, (source, _) in by_source.items() if name in source.of)
                groups.setdefault(keys, []).append(name)
        squares: Squares = {}
        for keys, names in groups.items():
            squares |= self._norms(names, [by_source[key] for key in keys], calls.examples)
        return squares

    def _laid_out(self, use: Use) -> Use:
        if use.layout is None or use.index not in self.interleaved:
            return use
        return replace(use, layout=replace(use.layout, interleaved=True))

    def _norms(self, names: list[str], used: list[tuple[Source, list[Part]]], n: int) -> Squares:
        """Squared norms of parameters that have the same sources."""
        if len(used) == 1 and used[0][0].is_view and len(used[0][1]) == 1:
            return {names[0]: used[0][1][0].squares().double().cpu()}  # no gradients needed
        parameters = [self.parameters[name] for name in names]
        squares = torch.zeros(len(names), n, dtype=torch.float64)
        sources = [source.tensor for source, _ in used]
        for k in range(n if used else 0):
            rows = slice(k, k + 1)
            of_sources = [
                _total(of_source, rows, source.tensor.shape) for source, of_source in used
            ]
            # From tensors made of parameters, autograd carries the sum back to the parameters.
            of_parameters = torch.autograd.grad(sources, parameters, of_sources, retain_graph=True)
            squares[:, k] = _squares(of_parameters)
        return dict(zip(names, squares, strict=True))

    def _alone(self, names: Sequence[str], positions: Tensor, value: Value) -> Squares:
        """Squared norms by automatic differentiation, one example at a time."""
        rows = []
        for position in positions[:, None]:
            with torch.enable_grad():
                total = value(self._outputs(position), position).sum()
            parameters = [self.parameters[name] for name in names]
            rows.append(_squares(torch.autograd.grad(total, parameters, allow_unused=True)))
        return dict(zip(names, torch.stack(rows, 1), strict=True))

    def _check(self, pair: Tensor) -> None:
        """Compare the rules with automatic differentiation on two examples.

        Of a random projection of the outputs, since the loss of a memorized example is nearly flat.
        """
        calm = undisturbed(random=self.random, counting=self.counting)
        with calm, calm:
            first, alone = self._pass(pair[:1])
            self.seen[1] = first.seen
            calls, outputs = self._pass(pair)
            self.seen[2] = calls.seen
            self._refuse_mixing(pair, torch.cat([alone, self._outputs(pair[1:])]), outputs)
            truth = self._truth(outputs, pair)
            slopes = _slopes(calls, outputs, pair, _projected)
            wrong = self._wrong(calls, slopes, truth)
            # Where rules fail, an example's places may be interleaved with the others': try that.
            self.interleaved = {
                use.index
                for use in calls.uses
                if use.layout is not None
                and use.layout.places > 1
                and any(source.of & wrong for source in use.sources)
            }
            if self.interleaved:
                wrong = self._wrong(calls, slopes, truth)
        self.one_by_one |= wrong

    def _truth(self, outputs: Tensor, pair: Tensor) -> Squares:
        """Squared norms by automatic differentiation of each value of the batch."""
        # Of the same batch: alone, an activation may round to the other side of a ReLU.
        with torch.enable_grad():
            values = list(_projected(outputs, pair))
        parameters = list(self.parameters.values())
        rows = [
            _squares(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))
            for value in values
        ]
        return dict(zip(self.parameters, torch.stack(rows, 1), strict=True))

    def _refuse_mixing(self, pair: Tensor, alone: Tensor, batched: Tensor) -> None:
        """An example must have the same outputs and loss alone as in a batch."""
        self.study.task.margin(batched, self.labels[pair].to(batched.device))  # checks the labels
        losses = [self._loss(row[None], k) for row, k in zip(alone, pair[:, None], strict=True)]
        for what, single, together in (
            ("output", alone, batched),
            ("loss", torch.cat(losses), self._loss(batched, pair)),
        ):
            slack = _slack(batched.dtype)
            scale = float(together.abs().max()) * slack
            if not torch.allclose(single, together, rtol=slack, atol=scale, equal_nan=True):
                raise ValueError(
                    f"an example has another {what} alone than in a batch: the examples mix, or "
                    "the model draws random numbers; use a model and a loss that treat each "
                    "example independently."
                )

    def _wrong(
        self, calls: ParameterCalls, slopes: Sequence[Tensor | None], truth: Squares
    ) -> set[str]:
        """Parameters that no rule covers, whose rules fail, or whose gradient was too small."""
        by_rule = self._ghost(calls, slopes) if calls.alike else {}
        whole = torch.stack(list(truth.values())).sum(0).sqrt()
        wrong = set(self.parameters) - by_rule.keys()
        for name, squares in by_rule.items():
            norm, true = squares.clamp(min=0).sqrt(), truth[name].sqrt()
            dtype = self.parameters[name].dtype
            slack = _slack(dtype)
            least = 10 * torch.finfo(dtype).eps * whole  # anything below is rounding
            plain = all(
                use.layout is not None and use.layout.axis == 0 and use.layout.places == 1
                for use in calls.uses
                if any(name in source.of for source in use.sources)
            )
            # No gradient to compare: trusted only where the layout leaves no choice.
            unseen = bool((true <= least).all()) and not plain
            if unseen or bool(((norm - true).abs() > slack * true + least).any()):
                wrong.add(name)
        return wrong


def _total(used: list[Part], rows: slice, shape: torch.Size) -> Tensor:
    """The gradient of one source for one example: the sum over the calls that use it."""
    return torch.cat([part.gradients(rows).reshape(1, *shape) for part in used]).sum(0)


def _projected(outputs: Tensor, positions: Tensor) -> Tensor:
    """The outputs along one random direction: it has a gradient wherever the model has one."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(outputs.shape[1:], generator=generator)
    return (outputs * direction.to(outputs)).reshape(len(outputs), -1).sum(1)


def _slopes(
    calls: ParameterCalls, outputs: Tensor, positions: Tensor, value: Value
) -> Sequence[Tensor | None]:
    """Gradient of the summed values with respect to the output of each use."""
    edges = [use.edge for use in calls.uses]
    with torch.enable_grad():
        total = value(outputs, positions).sum()
    return torch.autograd.grad(total, edges, allow_unused=True) if edges else ()


def _squares(gradients: Sequence[Tensor | None]) -> Tensor:
    """Squared norm of each gradient, float64; None counts as 0."""
    norms = [
        0.0 if g is None else float(torch.linalg.vector_norm(_dense(g), dtype=torch.float64))
        for g in gradients
    ]
    return torch.tensor(norms, dtype=torch.float64).square()


def _dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def _slack(dtype: torch.dtype) -> float:
    return float(4 * torch.finfo(dtype).eps ** 0.5)
