"""Where a part becomes dense: low-rank updates of recorded linear layers and convolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ._flow import Flow
from ._nodes import Node
from ._states import At, Bent, Part, State

# Above this share of the features, a part costs more than the whole.
NARROW = 0.5


def linear(flow: Flow, node: Node) -> State | At | None:
    """A linear layer of a part of its features, a bent record, or a dense change."""
    source, state = node.args[0], flow.first(node)
    if state is None or not flow.only_first_changed(node):
        return None
    if isinstance(state, Tensor):
        fold = flow.folded(node)
        out = flow.graph.kernels.linear(node, fold, state, by_row=flow.rows is not None)
        return At((fold or node).out, out)
    if isinstance(state, Bent):
        return _bent_linear(node, state)
    width = state.features.shape[-1]
    if state.axis != source.dim() - 1 or width > NARROW * source.shape[-1]:
        return None
    if state.features.dim() == 2:
        return _each_row(flow, node, state)
    # W x' = W x + W[:, features] (x' - x): a product of K columns instead of all.
    change = flow.delta(state)
    columns = node.args[1].index_select(1, state.features).t()
    if width == 1 and node.out.dim() > 2:
        return Bent(node.out, change, columns[0])
    base = flow.clean(node.out)
    flat = base.reshape(-1, base.shape[-1])
    if width == 1:
        out = torch.addcmul(flat, change.reshape(-1, 1), columns, out=flow.room(flat))
    else:
        out = torch.addmm(flat, change.reshape(-1, width), columns)
    return out.view(base.shape)


def _each_row(flow: Flow, node: Node, part: Part) -> Tensor:
    """The same with other features in each row."""
    base, change = flow.clean(node.out), flow.delta(part)
    rows, width = part.features.shape
    columns = node.args[1].t()[part.features]
    flat = base.reshape(rows, -1, base.shape[-1])
    return torch.baddbmm(flat, change.reshape(rows, -1, width), columns).view(base.shape)


def _bent_linear(node: Node, state: Bent) -> Bent:
    """A linear layer maps the directions of a bent record; the factors stay the same."""
    weight, bias = node.bound["weight"], node.bound["bias"]
    offset = None
    if state.ratio is not None:
        # The recorded output holds the bias, and ratio scales it: offset puts the rest back.
        offset = node.out.new_zeros(len(weight)) if bias is None else bias
        if state.offset is not None:
            offset = offset + weight @ state.offset
    return Bent(node.out, state.change, weight @ state.along, state.ratio, offset)


def layer_norm(flow: Flow, node: Node) -> State | At | None:
    """The norm of a bent record, which is a bent record: its variance has a closed form."""
    state, bound = flow.first(node), node.bound
    if not isinstance(state, Bent) or not flow.only_first_changed(node):
        return None
    if state.ratio is not None or len(bound["normalized_shape"]) != 1:
        return None
    variance, eps = flow.graph.variance(node), bound["eps"]
    if flow.rows is not None:
        variance = variance.index_select(0, flow.rows)
    centred = state.along - state.along.mean()
    # Var(x + c a) = Var(x) + 2 c Cov(x, a) + c² Var(a).
    covariance = (flow.clean(state.of) @ centred / len(centred)).unsqueeze(-1)
    new = variance + state.change * (2 * covariance + state.change * centred.square().mean())
    rate = torch.rsqrt(new.clamp_min(0) + eps)  # rounding may leave it just below 0
    along = centred if bound["weight"] is None else centred * bound["weight"]
    ratio = rate * torch.sqrt(variance + eps)
    return Bent(node.out, state.change * rate, along, ratio, bound["bias"])


def conv2d(flow: Flow, node: Node) -> State | At | None:
    """A convolution of which some or all input channels changed."""
    source, state = node.args[0], flow.first(node)
    if state is None or isinstance(state, Bent) or not flow.only_first_changed(node):
        return None
    if isinstance(node.bound["padding"], str):
        return None  # "same" may pad one side more than the other
    kernels, fold = flow.graph.kernels, flow.folded(node)
    if isinstance(state, Tensor):
        return At((fold or node).out, kernels.conv2d(node, fold, state, flow.clean))
    if state.axis != 1 or state.features.shape[-1] > NARROW * source.shape[1]:
        return None
    if kernels.groups(node) != 1:
        return _depthwise(flow, node, state)
    base = flow.clean((fold or node).out)
    value = kernels.narrow_conv2d(node, fold, base, flow.delta(state), state.features)
    return At((fold or node).out, value)


def _depthwise(flow: Flow, node: Node, part: Part) -> State | At | None:
    """Some channels of a depthwise convolution, each of which depends on its own input only."""
    kernels, fold, chosen = flow.graph.kernels, flow.folded(node), part.features
    weight, bias = kernels.weights(node, None)
    if not kernels.groups(node) == part.of.shape[1] == len(weight) or chosen.dim() != 1:
        return None
    bias = bias.index_select(0, chosen) if bias is not None else None
    weight = weight.index_select(0, chosen)
    value = F.conv2d(part.value, weight, bias, *kernels.geometry(node), len(chosen))
    new = Part(node.out, 1, chosen, value)
    return new if fold is None else At(fold.out, normed_part(flow, fold, new))


def normed_part(flow: Flow, norm: Node, part: Part) -> Part:
    """Some channels through a batch norm in eval mode."""
    scale, shift = flow.graph.kernels.affine(norm)
    shape = [*part.features.shape] if part.features.dim() == 2 else [1, -1]
    shape += [1] * (part.value.dim() - 2)
    value = part.value * scale[part.features].view(shape)
    return Part(norm.out, 1, part.features, value.add_(shift[part.features].view(shape)))
