"""Activations of units, chunk by chunk: means over positions and over augmented copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from memviz.checks import IndicesLike, Seed, checked, quoted
from memviz.engine.record import (
    Chunked,
    Edit,
    Layout,
    Located,
    Path,
    Paths,
    Site,
    Trace,
    check_located,
    chunk_size,
    layout,
    run_edited,
    split,
    tensors_in,
)
from memviz.progress import slow
from memviz.study import Study, check_examples, check_ready
from memviz.tasks.task import Inputs
from memviz.units import UnitSet, UnknownLayerError

from ._checks import check_repeats, differing, each_once, examined, floats, rows_to_try
from ._copies import Augment, Copies
from ._strongest import tie_order

# A layer's name and the number of its site: paths number their calls differently.
_Place = tuple[str, int]
_ROWS = 8  # copies of a single example that a model is tried on


class UnitActivations(Chunked):
    """The activation of every unit of some layers on each example, a chunk of examples at a time.

    A unit's activation on an example is its mean over positions and over the example's copies. It
    does not depend on which other examples are read, nor on their order: a model for which it
    would, or whose forward pass is random, is refused.

    Parameters
    ----------
    study, layers, augment, copies, examples, seed
        As for :func:`memviz.engine.activations.activation_statistics`.

    Raises
    ------
    KeyError
        If a layer is unknown.
    ValueError
        If a layer has no activation per example, an activation is complex, NaN or infinite, the
        forward pass is random, an example is named twice, ``augment`` draws from an unseeded
        generator, or ``copies`` is below 1.
    RuntimeError
        If the same examples take another path through the forward pass each time.

    Attributes
    ----------
    layers : tuple of Layer
    units : tuple of Unit
    examples : int64 ``[n]``
    copies : int
    dtype : torch.dtype
        Of the activations: float64 if a layer computes in it, else float32.
    tie_order : int64 ``[study]``
        The place of each example of the study where activations tie; drawn by the seed.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> for positions, values in UnitActivations(study).chunks():
    ...     print(positions, values.shape)
    tensor([0, 1, 2, 3, 4, 5]) torch.Size([6, 8])
    """

    @checked
    def __init__(
        self,
        study: Study,
        layers: Sequence[str] | None = None,
        augment: Augment | None = None,
        copies: int = 10,
        examples: IndicesLike | None = None,
        *,
        seed: Seed = 0,
    ) -> None:
        check_ready(study.model)
        self._copies = Copies(study, augment, copies, seed)
        self.study, self.copies = study, self._copies.number
        self.tie_order = tie_order(len(study), seed)
        self.examples = each_once(check_examples(study, examples))
        tried = examined(study.inputs, self.examples)
        # One copy of each; of a single example several copies, which must not be coupled.
        given = self._copies.of(tried, 1 if len(tried) > 1 else _ROWS)
        if len(tried) == self.copies == 1:
            given = _taken(given, [0, 0])
        # Two passes, of one example and of two, show which axis grows with the examples.
        self._paths = Paths(study)
        self._one = self._paths.learn(_taken(given, [0]))
        one = self._one.trace
        given = _taken(given, list(range(min(rows_to_try(one.bytes), _rows_of(given)))))
        self._two = self._paths.learn(_taken(given, [0, 1]))
        self._located = self._chosen(layers)
        self.layers = tuple(located.layer for located in self._located)
        self.units = tuple(unit for layer in self.layers for unit in layer.all())
        self._layouts = self._laid_out(given)
        rows_at_once = chunk_size(one.bytes, study.device, largest=one.largest)
        super().__init__(min(max(1, rows_at_once // self.copies), len(self.examples)))

    def chunks(self, *, progress: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Positions in ``examples``, int64 ``[b]``, with activations ``[b, units]``.

        Raises
        ------
        ValueError
            If an activation is NaN or infinite.
        """
        parts = split(len(self.examples), self.size)
        for positions in slow(parts, "activations", progress=progress):
            rows = self._values(self._copies.of(self.examples[positions]))
            values = rows.unflatten(0, (len(positions), self.copies)).mean(1)
            bad = ~values.isfinite()
            if bool(bad.any()):
                row, unit = bad.nonzero()[0].tolist()
                raise ValueError(
                    f"unit {self.units[unit]} is NaN or infinite on example "
                    f"{int(self.examples[positions[row]])}; leave that example out, or check the "
                    "weights."
                )
            yield positions, values

    def _chosen(self, names: Sequence[str] | None) -> list[Located]:
        located = self._two.located
        features = {
            name: place
            for name, place in located.items()
            if place.layer.kind != "heads" and place.by_example
        }
        if names is None:
            chosen = [place for place in features.values() if not place.layer.is_output]
        else:
            others = [located[name] for name in names if name in located and name not in features]
            if others:
                why = (
                    "are attention heads, of many features each"
                    if others[0].layer.kind == "heads"
                    else "have no activation of their own for each example"
                )
                name = others[0].layer.name
                raise ValueError(
                    f"the units of layer {quoted(name)} {why}; name conv or linear layers."
                )
            unknown = [name for name in names if name not in features]
            if unknown:
                wanted = UnitSet({unknown[0]: [0]})
                check_located(self._paths.study.model, self._two.trace, located, wanted)  # says why
                raise UnknownLayerError(unknown[0], features)
            chosen = [features[name] for name in dict.fromkeys(names)]
        if not chosen:
            raise ValueError(
                "there is no layer to read; name at least one conv or linear layer, for example "
                f"{next(iter(features), 'fc')!r}."
            )
        return chosen

    def _laid_out(self, given: Inputs) -> dict[_Place, Layout]:
        """Where the examples are at each site; in a batch each must be as it is alone."""
        layouts = {}
        for located in self._located:
            name, sites = located.layer.name, self._sites(self._one, located)
            for k, (small, large) in enumerate(zip(sites, self._read_at(located), strict=True)):
                shapes = _shape(small, self._one.trace), _shape(large, self._two.trace)
                known = layout(shapes[0], 1, shapes[1], 2)
                if known is None:
                    raise ValueError(
                        f"layer {located.layer.name!r} has no activation of its own for each "
                        "example; leave it out."
                    )
                layouts[name, k] = known
        batch, model = self._repeated(given, layouts), self.study.model
        self.dtype = max((rows.dtype for rows in batch.values()), key=lambda dtype: dtype.itemsize)
        alone = self._pooled(_taken(given, [0]), layouts)
        wrong = differing(alone, _rows(batch, [0]), model)
        # Shapes can't tell [examples, places] from [places, examples]: try the other where wrong.
        layouts |= {place: replace(layouts[place], interleaved=True) for place in wrong}
        batch = self._pooled(given, layouts) if wrong else batch
        wrong = differing(alone, _rows(batch, [0]), model)
        back = list(range(len(next(iter(batch.values())))))[::-1]
        for part in (back, back[: len(back) // 2]):
            read = self._pooled(_taken(given, part), layouts)
            wrong |= differing(_rows(batch, part), read, model)
        for located in self._located:
            if any(name == located.layer.name for name, _ in wrong):
                raise ValueError(
                    f"an example's activations in layer {located.layer.name!r} depend on the other "
                    "examples in its batch, or on its place there; leave the layer out, or use a "
                    "model that treats each example independently."
                )
        return layouts

    def _values(self, inputs: Inputs) -> Tensor:
        """Activations ``[rows, units]``; the mean if a layer is reached more than once."""
        pooled = self._pooled(inputs, self._layouts)
        return torch.cat(
            [
                torch.stack([pooled[place] for place in _places(located)]).mean(0)
                for located in self._located
            ],
            1,
        )

    def _repeated(self, inputs: Inputs, layouts: Mapping[_Place, Layout]) -> dict[_Place, Tensor]:
        """What the sites hold, if a second call gives the same there and at the model's output."""
        pooled: dict[_Place, Tensor] = {}

        def read() -> dict[_Place | int, Tensor]:
            pooled.clear()
            given: dict[_Place | int, Tensor] = {}
            for number, output in enumerate(tensors_in(self._run(inputs, layouts, pooled))):
                given[number] = output.cpu()
            for place, rows in pooled.items():
                given[place] = rows
            return given

        check_repeats(read, draws=self._one.trace.random or self._two.trace.random)
        return pooled

    def _pooled(self, inputs: Inputs, layouts: Mapping[_Place, Layout]) -> dict[_Place, Tensor]:
        """The mean over positions at each site, ``[rows, units]``."""
        pooled: dict[_Place, Tensor] = {}
        self._run(inputs, layouts, pooled)
        return pooled

    def _run(
        self, inputs: Inputs, layouts: Mapping[_Place, Layout], pooled: dict[_Place, Tensor]
    ) -> object:
        """The model's output; the means over positions are put into ``pooled``."""

        def reading(place: _Place, site: Site) -> Edit:
            def keep(value: Tensor) -> Tensor:
                rows = layouts[place].rows(value)
                axis = site.axis % value.dim() + 1
                others = [k for k in range(1, rows.dim()) if k != axis]
                pooled[place] = floats(rows).mean(others).cpu()
                return value

            return Edit(site, keep)

        def run(path: Path) -> object:
            edits = [
                reading(place, site)
                for located in self._located
                for place, site in zip(_places(located), self._sites(path, located), strict=True)
            ]
            calm = self._paths.calm(path)
            with calm, calm:
                return run_edited(path.trace, edits, self._paths.prepare(path, inputs))

        return self._paths.follow(inputs, run)[1]

    def _read_at(self, located: Located) -> tuple[Site, ...]:
        """Where a layer is read: at its units."""
        return located.unit_sites

    def _sites(self, path: Path, located: Located) -> tuple[Site, ...]:
        """Where a path reaches a layer."""
        here = path.located.get(located.layer.name)
        sites = () if here is None else self._read_at(here)
        if len(sites) != len(located.unit_sites):
            raise ValueError(
                f"the examples do not all reach layer {located.layer.name!r}; leave it out."
            )
        return sites


def _places(located: Located) -> list[_Place]:
    return [(located.layer.name, k) for k in range(len(located.unit_sites))]


def _shape(site: Site, seen: Trace) -> torch.Size:
    return tensors_in(seen.calls[site.call].output)[0].shape


def _rows_of(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)


def _rows(places: Mapping[_Place, Tensor], rows: list[int]) -> dict[_Place, Tensor]:
    return {place: values[rows] for place, values in places.items()}


def _taken(inputs: Inputs, rows: list[int]) -> Inputs:
    if isinstance(inputs, Mapping):
        return {key: value[rows] for key, value in inputs.items()}
    return inputs[rows]
