"""Units that a module declares of itself."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memviz.checks import quoted

from ._layer import Layer

Allowed = Mapping[str, Iterable[int] | None] | Iterable[str]
Live = Callable[[nn.Module], Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class DeclaredUnits:
    """What a module says of its units, as its attribute or property ``declared_units``.

    Any ``nn.Module`` may declare units: a layer of a graph network, a state-space layer with a
    loop of its own, a recurrent cell. The value of a unit is the slice of what the module returns,
    a tensor, at the unit's index along ``axis``; it is ablated there, in every call of the module,
    for all that read it later. Nothing else is needed for exact ablation, sweeps and maps.

    Parameters
    ----------
    count : int
        How many units there are.
    axis : int or tuple of int
        The axis of the output along which they lie, counted from 0 or from the end; or several
        neighbouring axes, which count as one, flattened.
    kind : str
        What ``Layer.kind`` says.
    interventions : list of str, or dict of str to list of int, optional
        The only interventions that make sense, by name, such as ``"zero"`` and ``"constant 1"``; a
        name without its number, ``"constant"``, stands for all of them. A dict names the units
        that take each, None for all. By default all but those that a declaration must name:
        ``"negation"``, and ``"input x"``, the value that the module's argument ``x``, a tensor
        shaped like its output, has in the unit's place.
    live : callable, optional
        Of a model, in which some units may be read by nothing: bool ``[count]`` by layer name,
        False for units that are dead. They are left out of random controls.

    Raises
    ------
    TypeError, ValueError
        If the count or an axis is no whole number, or the axes are no neighbours.

    Examples
    --------
    >>> import memviz as mv, torch
    >>> class Decay(nn.Module):  # a state-space layer: h[t] = decay * h[t - 1] + x[t]
    ...     declared_units = DeclaredUnits(4, axis=2, kind="state space")
    ...     def forward(self, x):
    ...         h, states = torch.zeros_like(x[:, 0]), []
    ...         for step in x.unbind(1):
    ...             h = torch.tensor([0.9, 0.5, 0.1, 0.0]) * h + step
    ...             states.append(h)
    ...         return torch.stack(states, 1)
    >>> model = nn.Sequential(Decay(), nn.Flatten(), nn.Linear(12, 2)).eval()
    >>> study = mv.Study(model, torch.randn(6, 3, 4), torch.zeros(6), {"test": range(6)})
    >>> [(layer.name, layer.kind, layer.units) for layer in mv.layers(study)]
    [('0', 'state space', 4), ('2', 'linear', 2)]
    >>> mv.sweep(study, progress=False)
    Effects(zero on 4 units × 6 examples, 4 done, engine graph)
    """

    count: int
    axis: int | tuple[int, ...] = 1
    kind: str = "declared"
    interventions: Allowed | None = None
    live: Live | None = None

    def __post_init__(self) -> None:
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        for what, value in (("count", self.count), *(("axis", axis) for axis in axes)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"the {what} of units is {quoted(value)}; give a whole number.")
        if self.count < 1:
            raise ValueError(f"the count of units is {self.count}; give at least 1.")
        steps = {after - before for before, after in itertools.pairwise(axes)}
        signs = {axis >= 0 for axis in axes}
        if not axes or not steps <= {1} or len(signs) > 1:
            raise ValueError(
                f"the axis of units is {quoted(self.axis)}; give one axis, or neighbouring ones in "
                "order, for example (1, 2)."
            )
        if isinstance(self.interventions, str):
            raise TypeError(
                f"interventions is {quoted(self.interventions)}; give a list of names, for "
                'example ["zero"].'
            )

    @property
    def axes(self) -> tuple[int, ...]:
        """The axis, or the neighbouring axes."""
        return self.axis if isinstance(self.axis, tuple) else (self.axis,)

    @property
    def allowed(self) -> dict[str, frozenset[int] | None] | None:
        """The units that take each intervention, None for all of them; None if all are allowed."""
        given = self.interventions
        if given is None:
            return None
        if not isinstance(given, Mapping):
            return dict.fromkeys(given)
        return {name: None if ids is None else frozenset(ids) for name, ids in given.items()}


def declared_units(module: nn.Module) -> DeclaredUnits | None:
    """What a module declares; None if it declares nothing.

    Raises
    ------
    TypeError
        If its ``declared_units`` is something else.

    Examples
    --------
    >>> declared_units(nn.Linear(2, 3)) is None
    True
    """
    if "declared_units" not in vars(module) and not hasattr(type(module), "declared_units"):
        return None
    given = module.declared_units
    if given is None or isinstance(given, DeclaredUnits):
        return given
    raise TypeError(
        f"declared_units of {type(module).__name__} is {quoted(given)}; make it a "
        "memviz.units.DeclaredUnits, or name the attribute otherwise."
    )


@dataclass(frozen=True)
class Declarer:
    """A module that declares units, by its name in the model."""

    name: str
    module: nn.Module
    units: DeclaredUnits

    def layer(self, lives: Mapping[str, Tensor] | None = None, *, is_output: bool = False) -> Layer:
        """Its units as a layer.

        Parameters
        ----------
        lives : mapping of str to bool ``[count]``, optional
            The units that are live, by name of the layer; all are if there is none.
        is_output : bool
            Whether they are the model's output itself.

        Raises
        ------
        ValueError
            If those that are live are no bool ``[count]``.
        """
        units, dead = self.units, frozenset[int]()
        if lives is not None:
            live = lives.get(self.name)
            if not isinstance(live, Tensor) or live.shape != (units.count,):
                raise ValueError(
                    f"layer {quoted(self.name)} declares {units.count} units, and its function of "
                    f"live units gives {quoted(live)}; let it give bool [{units.count}] for this "
                    "layer."
                )
            dead = frozenset((~live.bool()).nonzero()[:, 0].tolist())
        site = f"output of {type(self.module).__name__}"
        allowed = tuple(units.allowed or ())
        return Layer(self.name, units.kind, units.count, site, is_output, allowed, units.axes, dead)

    def flattened(self, output: Any) -> tuple[Tensor, int]:
        """What the module returned, with its units along one axis, and that axis.

        Raises
        ------
        ValueError
            If it is no tensor, or does not have the declared units on their axis.
        """
        where = f"layer {quoted(self.name)} ({type(self.module).__name__})"
        if not isinstance(output, Tensor):
            raise ValueError(
                f"{where} declares units and returns a {type(output).__name__}, not a tensor; "
                "return the tensor of the units alone, or declare them in a module that does."
            )
        axes, count, rank = self.units.axes, self.units.count, output.dim()
        if not all(-rank <= axis < rank for axis in axes):
            raise ValueError(
                f"{where} declares {count} units on axis {self.units.axis} and returns a tensor of "
                f"shape {tuple(output.shape)}; declare an axis that it has."
            )
        first, last = axes[0] % rank, axes[-1] % rank
        flat = output.flatten(first, last) if last > first else output
        if flat.shape[first] != count:
            raise ValueError(
                f"{where} declares {count} units on axis {self.units.axis} and returns "
                f"{flat.shape[first]} there, in a tensor of shape {tuple(output.shape)}; declare "
                "the count and the axis of its output."
            )
        return flat, first

    def restored(self, flat: Tensor, output: Tensor) -> Tensor:
        """A flattened output in the output's own shape."""
        if flat.dim() == output.dim():
            return flat
        first, last = self.units.axes[0] % output.dim(), self.units.axes[-1] % output.dim()
        shaped: Tensor = torch.unflatten(flat, first, output.shape[first : last + 1])
        return shaped

    def inputs(self, args: Any, kwargs: Any, output: Tensor) -> dict[str, Tensor]:
        """Arguments that an intervention may pass on, by name, flattened like the output."""
        named = [name.split()[1] for name in self.units.allowed or () if name[:6] == "input "]
        if not named:
            return {}
        signature = inspect.signature(type(self.module).forward)
        bound = signature.bind(self.module, *args, **kwargs).arguments
        found = {name: value for name, value in bound.items() if name in named}
        given = {
            name: self.flattened(value)[0]
            for name, value in found.items()
            if isinstance(value, Tensor) and value.shape == output.shape
        }
        missing = next((name for name in named if name not in given), None)
        if missing is not None:
            raise ValueError(
                f"layer {quoted(self.name)} ({type(self.module).__name__}) allows "
                f"{quoted('input ' + missing)} and was called without a tensor {missing!r} in the "
                "shape of its output; leave that intervention out of the declaration."
            )
        return given


def declarers(model: nn.Module) -> Iterator[Declarer]:
    """The modules of a model that declare units."""
    for name, module in model.named_modules():
        units = declared_units(module)
        if units is not None:
            yield Declarer(name, module, units)
