"""The rules: what each kind of call contributes to its parameters, from its output's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memviz.engine.record import Layout

from ._calls import Source, Use
from ._parts import Convolution, Lookup, Part, Product, Summed

_T = Tensor
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding")
_RUNNING = ("input", "running_mean", "running_var", "weight", "bias")
_EMBEDDING = ("input", "weight", "padding_idx", "max_norm", "norm_type")


class NotCoveredError(Exception):
    """No rule gives each example's gradient for such a call."""


def parts(use: Use, gradient: Tensor) -> list[tuple[Source, Part]]:
    """What a call contributes to each of its sources, from the gradient of its output.

    Raises
    ------
    NotCoveredError
        If no rule covers the call.
    """
    if use.function not in _RULES or use.layout is None:
        raise NotCoveredError
    rule, names = _RULES[use.function]
    arguments = dict(zip(names, use.args, strict=False)) | use.kwargs
    if len(use.args) > len(names) or not arguments.keys() <= set(names):
        raise NotCoveredError
    sources = {id(source.tensor): source for source in use.sources}
    contributions = []
    for role, value in arguments.items():
        if id(value) in sources:
            part = rule(use.function, role, arguments, _full(gradient), use.layout)
            contributions.append((sources[id(value)], part))
    if len(contributions) != len(use.sources):
        raise NotCoveredError  # a source inside a list, for example
    return contributions


def _linear(
    function: Any, role: str, arguments: dict[str, Any], gradient: Tensor, layout: Layout
) -> Part:
    if layout.axis == gradient.dim() - 1 or role not in ("weight", "bias"):
        raise NotCoveredError
    g = layout.rows(gradient)
    if role == "bias":
        return _summed(g, arguments["bias"])
    if arguments["weight"].dim() != 2:
        raise NotCoveredError
    a = layout.rows(_full(arguments["input"]))
    return Product(a.flatten(1, -2), g.flatten(1, -2), transposed=function is not F.linear)


def _convolution(
    function: Any, role: str, arguments: dict[str, Any], gradient: Tensor, layout: Layout
) -> Part:
    axes = arguments["weight"].dim() - 2
    if layout.axis != 0 or gradient.dim() != axes + 2 or role not in ("weight", "bias"):
        raise NotCoveredError
    g = layout.rows(gradient)
    if role == "bias":
        return Summed(g.flatten(3).sum((1, 3)))
    a, padding = _full(arguments["input"]), arguments.get("padding", 0)
    numbers = {
        name: _tuple(arguments.get(name, default), axes)
        for name, default in (("stride", 1), ("dilation", 1), ("output_padding", 0))
    }
    if isinstance(padding, str):
        a, padding = _padded(a, padding, arguments["weight"].shape[2:], numbers["dilation"])
    return Convolution(
        layout.rows(a),
        g,
        _full(arguments["weight"].detach()),
        padding=_tuple(padding, axes),
        transposed="transpose" in function.__name__,
        groups=arguments.get("groups", 1),
        **numbers,
    )


def _norm(
    function: Any, role: str, arguments: dict[str, Any], gradient: Tensor, layout: Layout
) -> Part:
    if role not in ("weight", "bias"):
        raise NotCoveredError
    values = layout.rows(gradient)
    if role == "weight":
        # The weight multiplies the normalized input: the same call without weight and bias.
        plain = arguments | dict.fromkeys(arguments.keys() & {"weight", "bias"})
        values = values * layout.rows(_full(function(**plain)))
    if function in (F.layer_norm, F.rms_norm):
        return _summed(values, arguments[role])
    if layout.axis != 0:
        raise NotCoveredError
    return Summed(values.flatten(3).sum((1, 3)) if values.dim() > 3 else values.sum(1))


def _embedding(
    function: Any, role: str, arguments: dict[str, Any], gradient: Tensor, layout: Layout
) -> Part:
    if role != "weight" or layout.axis == gradient.dim() - 1:
        raise NotCoveredError
    # Renormalizing or scaling by frequency would make the gradient another one.
    if arguments.get("max_norm") is not None or arguments.get("scale_grad_by_freq"):
        raise NotCoveredError
    ids, g = layout.rows(arguments["input"]).flatten(1), layout.rows(gradient).flatten(1, -2)
    # Autograd gives the padding row no gradient.
    if arguments.get("padding_idx") is not None:
        g = g * (ids != arguments["padding_idx"] % len(arguments["weight"]))[..., None]
    return Lookup(ids, g, len(arguments["weight"]))


def _broadcast(
    function: Any, role: str, arguments: dict[str, Any], gradient: Tensor, layout: Layout
) -> Part:
    if function in _PRODUCTS:
        other = arguments["other" if role == "input" else "input"]
        gradient = gradient * (other.expand_as(gradient) if isinstance(other, Tensor) else other)
    elif function in _DIFFERENCES and role == "other":
        gradient = -gradient
    return _summed(layout.rows(gradient), arguments[role])


def _summed(rows: Tensor, source: Tensor) -> Summed:
    """Each example's gradient of a broadcast tensor: the sum over its copies."""
    lead = rows.dim() - 1 - source.dim()
    if lead < 0:
        raise NotCoveredError
    shared = [k for k, size in enumerate(source.shape) if size != rows.shape[k + 1 + lead]]
    if any(source.shape[k] != 1 for k in shared):
        raise NotCoveredError
    axes = [*range(1, 1 + lead), *(k + 1 + lead for k in shared)]
    return Summed((rows.sum(axes) if axes else rows).reshape(len(rows), *source.shape))


def _full(tensor: Tensor) -> Tensor:
    # Sums of squares leave the range of half precision.
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _tuple(value: Any, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _padded(
    a: Tensor, padding: str, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Tensor, int]:
    """The input with its ``"same"`` padding, which may be one wider at the end than the start."""
    if padding == "valid":
        return a, 0
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    sides = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return F.pad(a, sides), 0


_DIFFERENCES = frozenset([torch.sub, _T.sub, _T.sub_])
_PRODUCTS = frozenset([torch.mul, _T.mul, _T.mul_])
_Rule = Callable[[Any, str, dict[str, Any], Tensor, Layout], Part]
_RULES: dict[Any, tuple[_Rule, tuple[str, ...]]] = {
    F.linear: (_linear, ("input", "weight", "bias")),
    **dict.fromkeys((torch.matmul, _T.matmul, torch.mm, _T.mm), (_linear, ("input", "weight"))),
    **dict.fromkeys((torch.addmm, _T.addmm), (_linear, ("bias", "input", "weight"))),
    **dict.fromkeys(
        (torch.conv1d, torch.conv2d, torch.conv3d),
        (_convolution, (*_CONVOLUTION, "dilation", "groups")),
    ),
    **dict.fromkeys(
        (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
        (_convolution, (*_CONVOLUTION, "output_padding", "groups", "dilation")),
    ),
    F.batch_norm: (_norm, (*_RUNNING, "training", "momentum", "eps")),
    F.instance_norm: (_norm, (*_RUNNING, "use_input_stats", "momentum", "eps")),
    F.group_norm: (_norm, ("input", "num_groups", "weight", "bias", "eps")),
    F.layer_norm: (_norm, ("input", "normalized_shape", "weight", "bias", "eps")),
    F.rms_norm: (_norm, ("input", "normalized_shape", "weight", "eps")),
    F.embedding: (_embedding, (*_EMBEDDING, "scale_grad_by_freq", "sparse")),
    **dict.fromkeys(
        (torch.add, _T.add, _T.add_, *_DIFFERENCES, *_PRODUCTS), (_broadcast, ("input", "other"))
    ),
    **dict.fromkeys((_T.expand, _T.expand_as, _T.repeat), (_broadcast, ("input", *"01234567"))),
}
