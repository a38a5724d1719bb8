"""Activations of units, chunk by chunk: means over positions and over augmented copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from memviz.engine.record import (
    Chunked,
    DivergedError,
    Edit,
    Layout,
    Located,
    Site,
    Trace,
    chunk_size,
    layout,
    locate,
    run_edited,
    split,
    tensors_in,
    trace,
    undisturbed,
)
from memviz.progress import slow
from memviz.study import Study, check_examples, check_ready
from memviz.tasks.task import Inputs
from memviz.units import UnknownLayerError

Augment = Callable[[Inputs, torch.Generator], Inputs]
_ANOTHER_PATH = (
    "the model's forward pass takes different paths for different examples; memviz needs one path: "
    "split the study, or wrap the model so that it takes one."
)
_SLACK = 1e-3  # of a layer's largest activation: another batch size rounds differently


class UnitActivations(Chunked):
    """The activation of every unit of some layers on each example, a chunk of examples at a time.

    A unit's activation on an example is its mean over positions and over the example's copies.

    Parameters
    ----------
    study, layers, augment, copies, examples, seed
        As for :func:`memviz.engine.activations.activation_statistics`.

    Raises
    ------
    KeyError
        If a layer is unknown.
    ValueError
        If a layer has no activation per example, or ``copies`` is below 1.
    RuntimeError
        If the forward pass differs between examples.

    Attributes
    ----------
    layers : tuple of Layer
    units : tuple of Unit
    examples : int64 ``[n]``
    copies : int

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> for positions, values in UnitActivations(study).chunks():
    ...     print(positions, values.shape)
    tensor([0, 1, 2, 3, 4, 5]) torch.Size([6, 8])
    """

    def __init__(
        self,
        study: Study,
        layers: Sequence[str] | None = None,
        augment: Augment | None = None,
        copies: int = 10,
        examples: Tensor | None = None,
        *,
        seed: int = 0,
    ) -> None:
        check_ready(study.model)
        if copies < 1:
            raise ValueError(f"copies is {copies}; give at least 1 copy per example.")
        self.study, self.augment = study, augment
        self._seeds = torch.randint(
            2**31, (len(study),), generator=torch.Generator().manual_seed(seed)
        )
        self.copies = copies if augment is not None else 1
        self.examples = check_examples(study, examples)
        # Two passes, of one example and of two, show which axis grows with the examples.
        both = self._inputs(torch.arange(2) % len(self.examples))
        rows = [0, self.copies]  # the first copy of each
        self._one = trace(study.model, study.call(_taken(both, rows[:1])))
        self._two = trace(study.model, study.call(_taken(both, rows)))
        self._located = self._chosen(layers)
        self.layers = tuple(located.layer for located in self._located)
        self.units = tuple(unit for layer in self.layers for unit in layer.all())
        self._layouts = self._laid_out(_taken(both, rows[:1]), _taken(both, rows))
        largest = self._one.largest
        rows_at_once = chunk_size(self._one.bytes, study.device, largest=largest)
        super().__init__(min(max(1, rows_at_once // self.copies), len(self.examples)))

    def chunks(self, *, progress: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Positions in ``examples``, int64 ``[b]``, with activations, float32 ``[b, units]``."""
        parts = split(len(self.examples), self.size)
        for positions in slow(parts, "activations", progress=progress):
            values = self._values(self._inputs(positions))
            yield positions, values.unflatten(0, (len(positions), self.copies)).mean(1)

    def _chosen(self, names: Sequence[str] | None) -> list[Located]:
        located = locate(self.study.model, self._two)
        features = {name: place for name, place in located.items() if place.layer.kind != "heads"}
        if names is None:
            chosen = [place for place in features.values() if not place.layer.is_output]
        else:
            heads = [name for name in names if name in located and name not in features]
            if heads:
                raise ValueError(
                    f"the units of layer {heads[0]!r} are attention heads, of many features each; "
                    "name conv or linear layers."
                )
            unknown = [name for name in names if name not in features]
            if unknown:
                raise UnknownLayerError(unknown[0], features)
            chosen = [features[name] for name in dict.fromkeys(names)]
        if not chosen:
            raise ValueError(
                "there is no layer to read; name at least one conv or linear layer, for example "
                f"{next(iter(features), 'fc')!r}."
            )
        return chosen

    def _laid_out(self, first: Inputs, two: Inputs) -> dict[Site, Layout]:
        """Where the examples are at each site; in a batch each must be as it is alone."""
        if [call.function for call in self._one.calls] != [c.function for c in self._two.calls]:
            raise RuntimeError(_ANOTHER_PATH)
        layouts = {}
        for located in self._located:
            for site in located.unit_sites:
                known = layout(_shape(site, self._one), 1, _shape(site, self._two), 2)
                if known is None:
                    raise ValueError(
                        f"layer {located.layer.name!r} has no activation of its own for each "
                        "example; leave it out."
                    )
                layouts[site] = known
        alone = self._pooled(first, layouts)
        wrong = _differing(alone, self._pooled(_taken(two, [0, 1]), layouts))
        # Shapes can't tell [examples, places] from [places, examples]: try the other where wrong.
        layouts |= {site: replace(layouts[site], interleaved=True) for site in wrong}
        wrong = _differing(alone, self._pooled(two, layouts)) if wrong else wrong
        for located in self._located:
            if wrong & set(located.unit_sites):
                raise ValueError(
                    f"an example's activations in layer {located.layer.name!r} depend on the other "
                    "examples in its batch; leave the layer out, or use a model that treats each "
                    "example independently."
                )
        return layouts

    def _values(self, inputs: Inputs) -> Tensor:
        """Activations ``[rows, units]``; the mean if a layer is reached more than once."""
        pooled = self._pooled(inputs, self._layouts)
        return torch.cat(
            [
                torch.stack([pooled[site] for site in located.unit_sites]).mean(0)
                for located in self._located
            ],
            1,
        )

    def _pooled(self, inputs: Inputs, layouts: Mapping[Site, Layout]) -> dict[Site, Tensor]:
        """The mean over positions at each site, float32 ``[rows, units]``."""
        pooled: dict[Site, Tensor] = {}

        def reading(site: Site) -> Edit:
            def keep(value: Tensor) -> Tensor:
                rows = layouts[site].rows(value)
                axis = site.axis % value.dim() + 1
                others = [k for k in range(1, rows.dim()) if k != axis]
                pooled[site] = rows.float().mean(others).cpu()
                return value

            return Edit(site, keep)

        call = self.study.call(inputs)
        with undisturbed(random=self._two.random, counting=self._two.counting):
            try:
                run_edited(self._two, [reading(site) for site in layouts], call)
            except DivergedError as error:
                raise RuntimeError(_ANOTHER_PATH) from error
        return pooled

    def _inputs(self, positions: Tensor) -> Inputs:
        """All copies of some examples, example by example, on the model's device."""
        examples = self.examples[positions]
        if self.augment is None:
            return self.study.batch(examples)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            parts = [self._augmented(example, self.augment) for example in examples.tolist()]
        device = self.study.device
        if isinstance(self.study.inputs, Mapping):
            return {key: torch.cat([part[key] for part in parts]).to(device) for key in parts[0]}
        return torch.cat([part[""] for part in parts]).to(device)

    def _augmented(self, example: int, augment: Augment) -> Mapping[str, Tensor]:
        """The augmented copies of one example, by name; a single input's name is empty."""
        copies = _repeated(self.study.inputs, example, self.copies)
        seed = int(self._seeds[example])
        torch.default_generator.manual_seed(seed)  # torchvision's transforms draw from it
        augmented = augment(copies, torch.Generator().manual_seed(seed))
        named = augmented if isinstance(augmented, Mapping) else {"": augmented}
        for value in named.values():
            if not isinstance(value, Tensor) or len(value) != self.copies:
                got = f"{len(value)} rows" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"augment returned {got} for {self.copies} copies; it must return every copy."
                )
        return named


def _shape(site: Site, seen: Trace) -> torch.Size:
    return tensors_in(seen.calls[site.call].output)[0].shape


def _differing(alone: Mapping[Site, Tensor], batch: Mapping[Site, Tensor]) -> set[Site]:
    return {
        site
        for site, value in alone.items()
        if bool(((value[0] - batch[site][0]).abs() > _SLACK * value.abs().max()).any())
    }


def _repeated(inputs: Inputs, example: int, copies: int) -> Inputs:
    if isinstance(inputs, Mapping):
        return {
            key: value[example].expand(copies, *value.shape[1:]).clone()
            for key, value in inputs.items()
        }
    return inputs[example].expand(copies, *inputs.shape[1:]).clone()


def _taken(inputs: Inputs, rows: list[int]) -> Inputs:
    if isinstance(inputs, Mapping):
        return {key: value[rows] for key, value in inputs.items()}
    return inputs[rows]
