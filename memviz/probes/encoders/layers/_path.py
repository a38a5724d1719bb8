"""The data path of an encoder: its layers and residual joins, and what each is read after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

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
    undisturbed,
)
from memviz.study import check_ready
from memviz.units import UnknownLayerError

Kind = Literal["conv", "linear", "attention", "join"]


@dataclass(frozen=True)
class Point:
    """A place on the data path.

    Attributes
    ----------
    name : str
        The layer's; a residual join is named after the branch that it adds, with a plus.
    kind : "conv", "linear", "attention" or "join"
    call : int
        Number of the call whose result is read.
    after : str or None
        The point that the data came through before; None at the start. Where branches meet it is
        the longer one, so a join is compared with its branch and not with its skip.
    """

    name: str
    kind: Kind
    call: int
    after: str | None = None


def data_path(model: nn.Module, seen: Trace, layers: Sequence[str] | None = None) -> list[Point]:
    """Every layer and residual join in the order of the pass, each with the point before it.

    A layer is read behind its norm and non-linearity, an attention as a whole (what its output
    projection gives), a join behind the non-linearity that follows it. In a model with attention
    the hidden layer of an MLP is no point of its own, as in the paper: FC N is compared with the
    join of attention N, attention N with the join of FC N-1.

    Parameters
    ----------
    layers : sequence of str, optional
        Layers to keep, in place of that choice; joins are always kept.

    Raises
    ------
    KeyError
        If a layer is unknown.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> images = torch.ones(2, 4)
    >>> seen = trace(model, lambda: model(images))
    >>> [(one.name, one.after) for one in data_path(model, seen)]
    [('0', None), ('2', '0')]
    """
    located = locate(model, seen)
    points = _layers(located) if layers is None else _named(located, layers)
    flow = _Flow(seen)
    points = flow.with_joins(points)
    if layers is None and any(one.kind == "attention" for one in points):
        inner = {p.after for p in flow.linked(points) if p.kind == "linear"}
        points = [p for p in points if p.kind != "linear" or p.name not in inner]
    return flow.linked(points)


def _layers(located: dict[str, Located]) -> list[Point]:
    """All layers; of an attention the output alone."""
    attentions = [name for name, found in located.items() if found.layer.kind == "heads"]
    outer = [
        name
        for name in located
        if name in attentions or not any(name.startswith(f"{one}.") for one in attentions)
    ]
    return [point for name in outer for point in _points(name, located[name])]


def _named(located: dict[str, Located], names: Sequence[str]) -> list[Point]:
    unknown = [name for name in names if name not in located]
    if unknown:
        raise UnknownLayerError(unknown[0], located)
    return [point for name in dict.fromkeys(names) for point in _points(name, located[name])]


def _points(name: str, found: Located) -> list[Point]:
    """One for each time that the pass reaches the layer."""
    kinds: dict[str, Kind] = {"conv": "conv", "linear": "linear", "heads": "attention"}
    return [
        Point(name if k == 0 else f"{name}#{k + 1}", kinds[found.layer.kind], site.call)
        for k, site in enumerate(found.unit_sites)
    ]


class _Flow:
    """Which call made a tensor, and through which points the data came."""

    def __init__(self, seen: Trace) -> None:
        self.calls = seen.calls
        self.maker: dict[tuple[int, int], int] = {}
        self.readers: dict[int, list[int]] = {}
        for index, call in enumerate(self.calls):
            for key in call.input_keys:
                if key in self.maker:
                    self.readers.setdefault(self.maker[key], []).append(index)
            for key in call.output_keys:
                if key not in call.input_keys:  # dropout in eval mode hands back what it was given
                    self.maker[key] = index

    def with_joins(self, points: list[Point]) -> list[Point]:
        """The points and the additions where two ways meet that both came through points."""
        ends, found = {point.call for point in points}, list(points)
        above = self._above(ends)
        for index, call in enumerate(self.calls):
            sides = [above.get(self.maker.get(key, -1), frozenset()) for key in call.input_keys[:2]]
            is_addition = index not in ends and call.name.strip("_") in ("add", "iadd", "radd")
            if is_addition and len(sides) == 2 and all(sides) and sides[0] != sides[1]:
                found.append(Point("", "join", self._behind(index)))
        return found

    def linked(self, points: list[Point]) -> list[Point]:
        """The points in order, with what each comes after: of several the one behind most points.

        Joins get their names here: that of the branch with a plus.
        """
        above = self._above({point.call for point in points})
        linked: dict[int, Point] = {}
        depth: dict[int, int] = {-1: -1}
        for point in sorted(points, key=lambda one: one.call):
            keys = self.calls[point.call].input_keys
            ways = [above.get(self.maker.get(key, -1), frozenset()) for key in keys]
            before = max(frozenset({-1}).union(*ways), key=lambda one: (depth[one], one))
            depth[point.call] = depth[before] + 1
            after = linked[before].name if before >= 0 else None
            name = f"{after}+" if point.kind == "join" else point.name
            linked[point.call] = replace(point, name=name, after=after)
        return list(linked.values())

    def _above(self, ends: set[int]) -> dict[int, frozenset[int]]:
        """For the result of each call, the nearest points that it came through."""
        above: dict[int, frozenset[int]] = {}
        for index, call in enumerate(self.calls):
            if index in ends:
                above[index] = frozenset([index])
                continue
            ways = [above.get(self.maker.get(key, -1), frozenset()) for key in call.input_keys]
            above[index] = frozenset().union(*ways)
        return above

    def _behind(self, index: int) -> int:
        """The non-linearity that alone reads a join, or the join."""
        readers = self.readers.get(index, [])
        alone = len(readers) == 1 and self.calls[readers[0]].name in NONLINEARITIES
        return readers[0] if alone else index


class PathFeatures:
    """What an encoder gives at each point of its data path, ``[n, features]`` an image.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    images : Tensor ``[n, ...]``
        At least two; the first two tell how the examples lie.
    layers : sequence of str, optional
        As for :func:`data_path`.

    Raises
    ------
    ValueError
        On train mode, fewer than two images, or features that depend on the other images.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> found = PathFeatures(model, torch.randn(5, 4))(torch.randn(5, 4))
    >>> {name: list(rows.shape) for name, rows in found.items()}
    {'0': [5, 8], '2': [5, 3]}
    """

    def __init__(
        self, model: nn.Module, images: Tensor, layers: Sequence[str] | None = None
    ) -> None:
        check_ready(model)
        if len(images) < 2:
            raise ValueError(f"there is {len(images)} image; give at least 2.")
        self.model = model
        self.device = next((p.device for p in model.parameters()), images.device)
        pair = images[:2].to(self.device)
        # Cut before the call: what it does itself would be traced with the model.
        one, self._trace = (_traced(model, images) for images in (pair[:1], pair))
        self.points = data_path(model, self._trace, layers)
        if not self.points:
            raise ValueError("the encoder has no convolution or linear layer to read.")
        self._layouts = {}
        for point in self.points:
            small, large = (_output(t.calls[point.call]).shape for t in (one, self._trace))
            found = layout(small, 1, large, 2)
            if found is None:
                raise _no_own(point.name)
            self._layouts[point.name] = found
        self.size = max(1, chunk_size(one.bytes, self.device, largest=one.largest))
        self._check(pair)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Features by point, in the path's order."""
        found: dict[str, Tensor] = {}

        def reader(point: Point) -> Edit:
            def look(value: Tensor) -> Tensor:
                rows = self._layouts[point.name].rows(tensors_in(value)[0])
                found[point.name] = rows.flatten(1).float()
                return value

            return Edit(Site(point.call, "output", 1), look)

        edits = [reader(point) for point in self.points]
        given = images.to(self.device)
        with undisturbed(random=self._trace.random, counting=self._trace.counting):
            try:
                run_edited(self._trace, edits, lambda: self.model(given))
            except DivergedError as error:
                raise RuntimeError(
                    "the encoder takes different paths for different images; memviz needs one."
                ) from error
        return {point.name: found[point.name] for point in self.points}

    def _check(self, pair: Tensor) -> None:
        """An image alone must have the features it has beside another."""
        for interleaved in (False, True):
            alone, both = self(pair[:1]), self(pair)
            wrong = [name for name in alone if not _same(alone[name][0], both[name][0])]
            if not wrong:
                return
            if interleaved:
                raise _no_own(wrong[0])
            for name in wrong:
                self._layouts[name] = replace(self._layouts[name], interleaved=True)


def _traced(model: nn.Module, images: Tensor) -> Trace:
    return trace(model, lambda: model(images))


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-3 * one.abs().max())


def _output(call: Traced) -> Tensor:
    return tensors_in(call.output)[0]


def _no_own(name: str) -> ValueError:
    return ValueError(
        f"at {name!r} an image's features depend on the other images of its batch; name other "
        "layers, or use an encoder that takes each image by itself."
    )
