"""What inputs are attributed to: a floating-point input, or the embeddings of token indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memviz.checks import quoted
from memviz.restored import undisturbed
from memviz.study import Study
from memviz.tasks.task import Inputs


@dataclass(frozen=True)
class Leaf:
    """The input that attributions are computed for.

    Attributes
    ----------
    key : str or None
        Its name in the study's inputs; None if they are a single tensor.
    others : tuple of str
        Names of the other inputs.
    embedding : str or None
        For token indices, the module that looks them up; its output is attributed to.
    """

    key: str | None
    others: tuple[str, ...] = ()
    embedding: str | None = None

    def split(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
        """The values to attribute to, and then the other inputs, token indices among them."""
        if isinstance(inputs, Mapping):
            first, *others = (inputs[name] for name in (self.key or "", *self.others))
        else:
            first, others = inputs, []
        if self.embedding is None:
            return (first, *others)
        calm = undisturbed(random=False, counting=model)
        with calm, calm:
            values = model.get_submodule(self.embedding)(first)
        return (values, first, *others)

    @contextmanager
    def standing_in(
        self, model: nn.Module, values: Tensor, others: tuple[Tensor, ...]
    ) -> Iterator[Inputs]:
        """The model's inputs, while its embedding gives ``values`` for the token indices."""
        if self.embedding is None:
            yield self._inputs(values, others)
            return
        ids = others[0]

        def replaced(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            # Other look-ups of the same table, of a decoder for example, stay as they are.
            return values.view(output.shape) if args and _same(args[0], ids) else None

        handle = model.get_submodule(self.embedding).register_forward_hook(replaced)
        try:
            yield self._inputs(ids, others[1:])
        finally:
            handle.remove()

    def _inputs(self, first: Tensor, others: tuple[Tensor, ...]) -> Inputs:
        if self.key is None:
            return first
        return {self.key: first, **dict(zip(self.others, others, strict=True))}


def leaf_of(study: Study, examples: Tensor, of: str | None = None) -> Leaf:
    """The named input; by default the only floating-point one, else the first that is embedded.

    Raises
    ------
    ValueError
        If the study has no such input, several could be meant, or token indices are not looked up
        by an ``nn.Embedding``.

    Examples
    --------
    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.tensor([[1, 2], [3, 4]]), [0, 1], {"test": range(2)})
    >>> leaf_of(study, torch.tensor([0]))
    Leaf(key=None, others=(), embedding='0')
    """
    few = examples[:2]
    inputs = study.rows(few)
    if not isinstance(inputs, Mapping):
        if of is not None:
            raise ValueError(f"this study has a single input; leave out of={quoted(of)}.")
        if inputs.is_floating_point():
            return Leaf(None)
        embedding = _embedding(study, few, inputs)
        if embedding is None:
            raise ValueError(
                f"the inputs are {inputs.dtype}, and no nn.Embedding of the model looks them up; "
                "attribution needs floating-point inputs or token indices."
            )
        return Leaf(None, (), embedding)
    if of is not None and of not in inputs:
        raise ValueError(f"this study has no input {quoted(of)}; choose from {', '.join(inputs)}.")
    floats = [key for key, value in inputs.items() if value.is_floating_point()]
    if of is None and len(floats) > 1:
        raise ValueError(
            f"attributions could be to {', '.join(map(repr, floats))}; name one with of=."
        )
    chosen = [of] if of is not None else floats or list(inputs)
    for key in chosen:
        others = tuple(name for name in inputs if name != key)
        if inputs[key].is_floating_point():
            return Leaf(key, others)
        embedding = _embedding(study, few, inputs[key])
        if embedding is not None:
            return Leaf(key, others, embedding)
    raise ValueError(
        f"no nn.Embedding of the model looks up {', '.join(map(repr, chosen))}; attribution needs "
        "a floating-point input or token indices."
    )


def _embedding(study: Study, few: Tensor, ids: Tensor) -> str | None:
    """The first embedding that looks up exactly these token indices."""
    embeddings = [
        (name, module)
        for name, module in study.model.named_modules()
        if isinstance(module, nn.Embedding)
    ]
    if not embeddings:
        return None
    wanted, names = ids.to(study.device), []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def seen(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if args and _same(args[0], wanted):
                names.append(name)

        return module.register_forward_pre_hook(seen)

    handles = [watch(name, module) for name, module in embeddings]
    try:
        calm = undisturbed(random=False, counting=study.model)
        with calm, calm:
            study.call(study.batch(few))()
    finally:
        for handle in handles:
            handle.remove()
    return names[0] if names else None


def _same(one: object, ids: Tensor) -> bool:
    return (
        isinstance(one, Tensor)
        and one.numel() == ids.numel()
        and bool((one.reshape(ids.shape) == ids).all())
    )
