"""The data path of an encoder: its layers and residual joins, each with the point before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from memviz.engine.activations import check_repeats, examined, floats, rows_to_try
from memviz.engine.record import (
    NONLINEARITIES,
    DivergedError,
    Edit,
    Located,
    Site,
    Trace,
    Traced,
    chunk_size,
    layout,
    locate,
    run_edited,
    tensors_in,
    trace,
)
from memviz.restored import undisturbed
from memviz.study import check_ready, twin
from memviz.units import UnknownLayerError

from .._encoded import called, check_own, not_its_own

Kind = Literal["conv", "linear", "attention", "join", "features"]
# By the kind of a layer; other layers are not on the path.
_KINDS: dict[str, Kind] = {"conv": "conv", "linear": "linear", "heads": "attention"}


@dataclass(frozen=True)
class Point:
    """A place on the data path.

    Attributes
    ----------
    name : str
        That of the layer; a residual join has the name of the branch it adds, with a plus.
    kind : {"conv", "linear", "attention", "join", "features"}
        The last one for features that were given, not read from a model.
    call : int
        Number of the call whose result is read.
    after : str or None
        The preceding point on the data path; None at the start. Where branches meet it is the last
        of the longer branch, so a join is compared with its branch and not with its skip.
    """

    name: str
    kind: Kind
    call: int
    after: str | None = None


def data_path(model: nn.Module, seen: Trace, layers: Sequence[str] | None = None) -> list[Point]:
    """Every layer and residual join in the order of the pass, each with the point before it.

    A layer is read after its norm and non-linearity, an attention as a whole (at its output
    projection), a join after the non-linearity that follows it. In a model with attention the
    hidden layer of an MLP is not a point, as in the paper: FC N is compared with the join of
    attention N, attention N with the join of FC N-1.

    Parameters
    ----------
    layers : sequence of str, optional
        Layers to read instead; joins are always read.

    Raises
    ------
    KeyError
        If the model has no such layer.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> images = torch.ones(2, 4)
    >>> seen = trace(model, lambda: model(images))
    >>> [(point.name, point.after) for point in data_path(model, seen)]
    [('0', None), ('2', '0')]
    """
    located = {
        name: layer for name, layer in locate(model, seen).items() if layer.layer.kind in _KINDS
    }
    points = _layers(located) if layers is None else _named(located, layers)
    flow = _Flow(seen)
    points = flow.with_joins(points)
    if layers is None and any(point.kind == "attention" for point in points):
        inner = {p.after for p in flow.linked(points) if p.kind == "linear"}
        points = [p for p in points if p.kind != "linear" or p.name not in inner]
    return flow.linked(points)


def _layers(located: dict[str, Located]) -> list[Point]:
    """All layers; attentions as a whole, without the layers inside."""
    attentions = {name: layer for name, layer in located.items() if layer.layer.kind == "heads"}
    projections = {call for layer in attentions.values() for call in layer.read_by}
    outermost = [
        name
        for name, layer in located.items()
        if name in attentions
        or (
            layer.filter_sites[0].call not in projections
            and not any(name.startswith(f"{outer}.") for outer in attentions)
        )
    ]
    return [point for name in outermost for point in _points(name, located[name])]


def _named(located: dict[str, Located], names: Sequence[str]) -> list[Point]:
    unknown = [name for name in names if name not in located]
    if unknown:
        raise UnknownLayerError(unknown[0], located)
    return [point for name in dict.fromkeys(names) for point in _points(name, located[name])]


def _points(name: str, located: Located) -> list[Point]:
    """One point for each time that the forward pass reaches the layer."""
    kind = _KINDS[located.layer.kind]
    calls = located.read_by or [site.call for site in located.unit_sites]
    return [
        Point(name if k == 0 else f"{name}#{k + 1}", kind, call) for k, call in enumerate(calls)
    ]


class _Flow:
    """Which call made a tensor, and through which points its data came."""

    def __init__(self, seen: Trace) -> None:
        self.calls = seen.calls
        self.maker: dict[tuple[int, int], int] = {}
        self.readers: dict[int, list[int]] = {}
        for index, call in enumerate(self.calls):
            for key in call.input_keys:
                if key in self.maker:
                    self.readers.setdefault(self.maker[key], []).append(index)
            for key in call.output_keys:
                if key not in call.input_keys:  # dropout in eval mode returns its input
                    self.maker[key] = index

    def with_joins(self, points: list[Point]) -> list[Point]:
        """The points, and every addition whose two summands came through different points."""
        ends, joined = {point.call for point in points}, list(points)
        above = self._above(ends)
        for index, call in enumerate(self.calls):
            sides = [above.get(self.maker.get(key, -1), frozenset()) for key in call.input_keys[:2]]
            is_addition = index not in ends and call.name.strip("_") in ("add", "iadd", "radd")
            if is_addition and len(sides) == 2 and all(sides) and sides[0] != sides[1]:
                joined.append(Point("", "join", self._behind(index)))
        return joined

    def linked(self, points: list[Point]) -> list[Point]:
        """The points in order, each with the preceding one: of several, that on the longest branch.

        Joins get their names here: that of their branch, with a plus.
        """
        above = self._above({point.call for point in points})
        linked: dict[int, Point] = {}
        depth: dict[int, int] = {-1: -1}
        for point in sorted(points, key=lambda point: point.call):
            keys = self.calls[point.call].input_keys
            branches = [above.get(self.maker.get(key, -1), frozenset()) for key in keys]
            before = max(frozenset({-1}).union(*branches), key=lambda call: (depth[call], call))
            depth[point.call] = depth[before] + 1
            after = linked[before].name if before >= 0 else None
            name = f"{after}+" if point.kind == "join" else point.name
            linked[point.call] = replace(point, name=name, after=after)
        return list(linked.values())

    def _above(self, ends: set[int]) -> dict[int, frozenset[int]]:
        """For the result of each call, the last points that its data came through."""
        above: dict[int, frozenset[int]] = {}
        for index, call in enumerate(self.calls):
            if index in ends:
                above[index] = frozenset([index])
                continue
            branches = [above.get(self.maker.get(key, -1), frozenset()) for key in call.input_keys]
            above[index] = frozenset().union(*branches)
        return above

    def _behind(self, index: int) -> int:
        """The non-linearity that follows a join if nothing else reads the join; else the join."""
        readers = self.readers.get(index, [])
        followed = len(readers) == 1 and self.calls[readers[0]].name in NONLINEARITIES
        return readers[0] if followed else index


class PathFeatures:
    """An encoder's features at each point of its data path, ``[n, features]``.

    They are float32, or float64 where the encoder computes in it.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    images : Tensor ``[n, ...]``
        At least two; the first two show which axis holds the examples.
    layers : sequence of str, optional
        As for :func:`data_path`.

    Raises
    ------
    ValueError
        If the model is in train mode, there are fewer than two images, an image's features depend
        on the other images, or the forward pass is random.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> features = PathFeatures(model, torch.randn(5, 4))(torch.randn(5, 4))
    >>> {name: list(rows.shape) for name, rows in features.items()}
    {'0': [5, 8], '2': [5, 3]}
    """

    def __init__(
        self, model: nn.Module, images: Tensor, layers: Sequence[str] | None = None
    ) -> None:
        check_ready(model)
        if len(images) < 2:
            raise ValueError(f"give at least 2 images, not {len(images)}.")
        self.model = model = twin(model)
        self.device = next((p.device for p in model.parameters()), images.device)
        tried = images[examined(images, torch.arange(len(images)))].to(self.device)
        pair = tried[:2]
        # Sliced and moved before tracing, which would record these calls with the model's.
        single, self._trace = (_traced(model, images) for images in (pair[:1], pair))
        self.points = data_path(model, self._trace, layers)
        if not self.points:
            raise ValueError(
                "the encoder has no convolution or linear layer to read; give another encoder."
            )
        self._layouts = {}
        for point in self.points:
            small, large = (_output(t.calls[point.call]).shape for t in (single, self._trace))
            laid_out = layout(small, 1, large, 2)
            if laid_out is None:
                raise not_its_own(point.name)
            self._layouts[point.name] = laid_out
        self.size = max(1, chunk_size(single.bytes, self.device, largest=single.largest))
        self._check(tried[: rows_to_try(single.bytes)], draws=single.random or self._trace.random)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Features by point, in the order of the data path."""
        return self._run(images)[0]

    def _run(self, images: Tensor) -> tuple[dict[str, Tensor], object]:
        """Features by point, and what the model returns."""
        features: dict[str, Tensor] = {}

        def reader(point: Point) -> Edit:
            def look(value: Tensor) -> Tensor:
                rows = self._layouts[point.name].rows(tensors_in(value)[0])
                features[point.name] = floats(rows.flatten(1))
                return value

            return Edit(Site(point.call, "output", 1), look)

        edits = [reader(point) for point in self.points]
        batch = images.to(self.device)
        calm = undisturbed(random=self._trace.random, counting=self._trace.counting)
        with calm, calm:
            try:
                output = run_edited(self._trace, edits, lambda: self.model(batch))
            except DivergedError as error:
                raise RuntimeError(
                    "the encoder takes different branches for different images; memviz needs a "
                    "fixed sequence of calls."
                ) from error
        return {point.name: features[point.name] for point in self.points}, output

    def _check(self, tried: Tensor, *, draws: bool) -> None:
        """Refuse an encoder that is random, or gives an image other features in another batch."""

        def everything() -> dict[str, Tensor]:
            features, output = self._run(tried)
            return {f"output {k}": rows for k, rows in enumerate(tensors_in(output))} | features

        check_repeats(everything, draws=draws)
        for interleaved in (False, True):
            wrong = check_own(self, tried, self.model, draws=draws)
            if not wrong:
                return
            if interleaved:
                raise not_its_own(next(p.name for p in self.points if p.name in wrong))
            for name in wrong:
                self._layouts[name] = replace(self._layouts[name], interleaved=True)


def _traced(model: nn.Module, images: Tensor) -> Trace:
    return trace(model, lambda: called(model, images, "images"))


def _output(call: Traced) -> Tensor:
    return tensors_in(call.output)[0]
