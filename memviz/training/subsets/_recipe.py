"""How a network is trained again and again: by a recipe that can be sent to other processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from inspect import unwrap
from types import FunctionType

import torch
from torch import Tensor, nn

from memviz.checks import Count, Seed, checked, described
from memviz.tasks.task import Inputs
from memviz.training.epochs import check_seed, seeded_draws
from memviz.training.loaders import labels_for
from memviz.training.loop import predict, train


@dataclass(frozen=True)
class Recipe:
    """A fresh network, trained by the plain loop (SGD, momentum 0.9, cosine learning rate).

    Called with all inputs, all labels, the indices to train on and a seed, it returns the predicted
    class of every input: what :func:`memviz.training.subsets.train_subsets` asks for. Any
    function that does the same can stand in its place. Train to the end: an example that was not
    fitted can't be memorized, and its score says nothing.

    Parameters
    ----------
    model : callable
        Makes a fresh network. It is called with torch's generator seeded; the generator is put
        back after.
    epochs, batch_size, learning_rate, weight_decay
        As for :func:`memviz.training.loop.train`.
    device : str

    Examples
    --------
    >>> from functools import partial
    >>> from memviz.models.mlp import MLP
    >>> recipe = Recipe(partial(MLP, (4, 8, 2)), epochs=2)
    >>> recipe(torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 0, 1]), torch.arange(5), 0).shape
    torch.Size([6])
    """

    model: Callable[[], nn.Module]
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    device: str = "cpu"

    def __call__(self, inputs: Inputs, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
        """Predicted classes of all inputs, int64 ``[examples]``, of a network trained on some."""
        given = self._check(inputs, labels, chosen)
        draws = seeded_draws(seed, self.device)
        with draws, draws:  # twice, as an interrupt can miss one exit
            model = self.model().to(self.device)
            self.fit(model, given[chosen], labels[chosen], seed)
            return predict(model, given.to(self.device)).cpu()

    def fit(
        self,
        model: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        seed: int,
        *,
        epochs: int | None = None,
        on_epoch: Callable[[int, nn.Module], object] | None = None,
    ) -> None:
        """Train a network in place."""
        train(
            model,
            inputs.to(self.device),
            labels.to(self.device),
            epochs=self.epochs if epochs is None else epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            seed=seed,
            on_epoch=on_epoch,
            progress=False,
        )

    def identity(self) -> list[object]:
        """What a folder of trainings knows the recipe by: its settings and the network it makes.

        The network's class counts by its name, the names, shapes and types of its weights, its
        modules' settings and the code of every ``forward`` that is not torch's own.
        """
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        kinds = [kind for kind in type(self).__mro__ if issubclass(kind, Recipe)]
        draws = seeded_draws(0)
        with draws, draws:
            network = self.model()
        weights = [*network.named_parameters(), *network.named_buffers()]
        return [
            # Recipe itself by its name, since its code may be written anew; others by theirs.
            [kind.__qualname__ if kind is Recipe else kind for kind in kinds],
            {**settings, "model": _by_name(self.model)},
            [[name, list(tensor.shape), tensor.dtype] for name, tensor in weights],
            [[name, *_of_module(module)] for name, module in network.named_modules()],
        ]

    def _check(self, inputs: Inputs, labels: Tensor, chosen: Tensor) -> Tensor:
        if not isinstance(inputs, Tensor):
            raise ValueError(
                "Recipe trains on inputs that are one tensor; for a dict of tensors give your own "
                "function (inputs, labels, chosen, seed) -> predictions."
            )
        if len(chosen) == 0:
            raise ValueError("there is no example to train on; choose at least one.")
        return inputs


@checked
def second_split(
    recipe: Recipe, inputs: Tensor, labels: Tensor, *, epochs: Count, seed: Seed = 0
) -> Tensor:
    """Train on one half, then on the other, and see when each example of the first is forgotten.

    Both halves are the first one once, so that every example is covered: two runs, with other
    initial weights.

    Parameters
    ----------
    recipe : Recipe
    inputs : float ``[n, ...]``
    labels : int64 ``[n]``
    epochs : int
        Of the second training; the first has the recipe's.
    seed : int
        Of the halves, the weights and the order.

    Returns
    -------
    bool ``[epochs, n]``
        Whether an example is right after each epoch on the half that it is not in; for
        :func:`memviz.probes.examples.second_split_forgetting`.

    Raises
    ------
    ValueError
        If there are fewer than two examples.

    Examples
    --------
    >>> from functools import partial
    >>> from memviz.models.mlp import MLP
    >>> recipe = Recipe(partial(MLP, (4, 8, 2)), epochs=2)
    >>> second_split(recipe, torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 0, 1]), epochs=3).shape
    torch.Size([3, 6])
    """
    if len(inputs) < 2:
        raise ValueError(f"{len(inputs)} example can't be split; give at least two.")
    labels = labels_for(inputs, labels)
    _check_takes(recipe, inputs[:2])
    seed = check_seed(seed)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    one, other = order.chunk(2)
    correct = torch.empty(epochs, len(inputs), dtype=torch.bool)
    for run, (first, then) in enumerate([(one, other), (other, one)]):
        held = inputs[first].to(recipe.device)

        def look(epoch: int, model: nn.Module, first: Tensor = first, held: Tensor = held) -> None:
            correct[epoch - 1, first] = predict(model, held).cpu() == labels[first]

        draws = seeded_draws(2 * seed + run, recipe.device)
        with draws, draws:
            model = recipe.model().to(recipe.device)
            recipe.fit(model, inputs[first], labels[first], 2 * seed + run)
            recipe.fit(model, inputs[then], labels[then], seed, epochs=epochs, on_epoch=look)
    return correct


def _check_takes(recipe: Recipe, inputs: Tensor) -> None:
    """Refuse inputs that the network can't be called with, before it is trained."""
    draws = seeded_draws(0, recipe.device)
    try:
        with draws, draws, torch.no_grad():
            recipe.model().to(recipe.device).eval()(inputs.to(recipe.device))
    except Exception as error:
        first = str(error).split("\n")[0][:200]
        raise ValueError(
            f"the recipe's network can't be called with {described(inputs[:1])}: {first}; give "
            "what it takes."
        ) from error


def _by_name(model: object) -> object:
    """The maker of a network, classes by their name: the network says the rest."""
    if isinstance(model, partial):
        return [_by_name(model.func), model.args, dict(sorted(model.keywords.items()))]
    return model.__qualname__ if isinstance(model, type) else model


def _of_module(module: nn.Module) -> list[object]:
    kind = type(module)
    forward = unwrap(kind.forward)
    # Torch's own modules are known by name: their code is another in every release.
    own = isinstance(forward, FunctionType) and not kind.__module__.startswith("torch.nn.")
    return [kind.__qualname__, module.extra_repr(), forward.__code__ if own else None]
