"""Layer groups: parameters and buffers that are rewound, retrained or accounted for together."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from memviz.checks import checked, quoted

LayersLike = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class LayerGroup:
    """Parameters and buffers that are treated as one layer.

    Attributes
    ----------
    name : str
    parameters, buffers : tuple of str
        Names in ``model.named_parameters()`` and ``model.named_buffers()``.
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...] = ()


@checked
def layer_groups(model: nn.Module, layers: LayersLike | None = None) -> list[LayerGroup]:
    """The layer groups of a model.

    Each module with parameters of its own is a group and gives it its name; a batch, instance or
    group norm registered right after a layer with the same number of units belongs to that layer's
    group. A parameter shared by two modules belongs to the first, a parameter of the model itself
    to the group ``""``.

    Parameters
    ----------
    model : nn.Module
    layers : mapping of name to module names, optional
        Your own groups: each contains the named modules (with all their submodules) or parameters.
        Whatever no group names stays untouched.

    Raises
    ------
    KeyError
        If the model has no such module or parameter.
    ValueError
        If the model or a group has no parameters, or two groups share one.

    Examples
    --------
    >>> conv, norm, head = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 2)
    >>> model = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), head)
    >>> [(group.name, group.parameters) for group in layer_groups(model)]
    [('0', ('0.weight', '1.weight', '1.bias')), ('4', ('4.weight', '4.bias'))]
    >>> layer_groups(model, {"first": "0", "rest": ["1", "4"]})[1].buffers
    ('1.running_mean', '1.running_var', '1.num_batches_tracked')
    """
    parameters = [name for name, _ in model.named_parameters()]
    buffers = [name for name, _ in model.named_buffers()]
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameters, so it has no layers.")
    if layers is None:
        return [
            LayerGroup(
                modules[0],
                tuple(name for name in parameters if _owner(name) in modules),
                tuple(name for name in buffers if _owner(name) in modules),
            )
            for modules in _default(model)
        ]
    groups = []
    owner: dict[str, str] = {}
    for group, members in layers.items():
        wanted = [members] if isinstance(members, str) else list(members)
        for name in wanted:
            _check_known(model, name, parameters)
        in_group = [name for name in parameters if _below(name, wanted)]
        if not in_group:
            raise ValueError(
                f"layer group {quoted(group)} has no parameters; name a module that has some."
            )
        for name in in_group:
            if name in owner:
                raise ValueError(
                    f"parameter {quoted(name)} is in layer group {quoted(owner[name])} and in "
                    f"{quoted(group)}; name it in one group only."
                )
            owner[name] = group
        groups.append(
            LayerGroup(group, tuple(in_group), tuple(b for b in buffers if _below(b, wanted)))
        )
    return groups


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once; detached, but not copied."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def _default(model: nn.Module) -> list[list[str]]:
    """Modules with parameters of their own, each norm joined to the layer before it."""
    owners = dict.fromkeys(_owner(name) for name, _ in model.named_parameters())
    groups: list[list[str]] = []
    units = 0
    for name, module in model.named_modules():
        is_norm = _is_norm(module)
        if is_norm and groups and _units(module) == units:
            groups[-1].append(name)  # even without parameters: its statistics belong to the layer
            units = 0  # one norm per layer
        elif name in owners:
            groups.append([name])
            units = 0 if is_norm else _units(module)
    return groups


def _owner(name: str) -> str:
    """The module of a parameter or buffer; a parametrized weight belongs to its layer."""
    layer, parametrized, _ = f".{name}".partition(".parametrizations.")
    return layer[1:] if parametrized else name.rpartition(".")[0]


def _is_norm(module: nn.Module) -> bool:
    # A transformer's layer norm precedes the layer that it feeds, so it is a layer of its own.
    return isinstance(module, _NormBase | nn.GroupNorm)


def _units(module: nn.Module) -> int:
    names = ("num_features", "num_channels", "out_channels", "out_features")
    return next((int(getattr(module, name)) for name in names if hasattr(module, name)), 0)


def _below(name: str, wanted: Sequence[str]) -> bool:
    return any(not w or name == w or name.startswith(f"{w}.") for w in wanted)


def _check_known(model: nn.Module, name: str, parameters: Sequence[str]) -> None:
    known = [module for module, _ in model.named_modules() if module] + list(parameters)
    if name and name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
        raise UnknownModuleError(
            f"this model has no module or parameter {quoted(name)}; the closest names are "
            f"{', '.join(map(repr, near))}."
        )


class UnknownModuleError(KeyError):
    """The model has no such module; the message lists the closest names."""

    def __str__(self) -> str:
        # KeyError would print the sentence in quotes.
        return str(self.args[0])
