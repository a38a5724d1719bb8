"""A small network of logic gates whose memorizing gates are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models.logic_gates import DenseGates, Gates, GroupSum, Thresholds, TreeConv

EXAMPLES, CLASSES, VOTES = 90, 4, 6
GROUPS = {"memorized": range(10), "clean": range(10, 60), "test": range(60, 90)}
CURVES = {
    "step": [0, 50, 200, 0, 50, 200, 0, 50, 200, 0, 50, 200],
    "reading": ["soft"] * 3 + ["hard"] * 9,
    "group": ["test"] * 6 + ["memorized"] * 3 + ["clean"] * 3,
    "given": [0.2, 0.7, 0.9, 0.1, 0.1, 0.88, 0.1, 0.2, 0.8, 0.1, 0.9, 1.0],
    "true": [0.2, 0.7, 0.9, 0.1, 0.1, 0.88, 0.1, 0.7, 0.2, 0.1, 0.9, 1.0],
}


def random_gates(model: nn.Module, seed: int = 0) -> None:
    """Make every gate one of the sixteen at random."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Gates):
            with torch.no_grad():
                module.logits.copy_(torch.randn(module.logits.shape, generator=generator))


def dense_net() -> nn.Sequential:
    """Three layers of 20, 30 and 24 random gates on 4 × 4 pixels with two thresholds."""
    model = nn.Sequential(
        nn.Flatten(),
        Thresholds([0.3, 0.6]),
        DenseGates(32, 20, seed=1),
        DenseGates(20, 30, seed=2),
        DenseGates(30, CLASSES * VOTES, seed=3),
        GroupSum(CLASSES, 2.0),
    )
    random_gates(model)
    return model.eval()


def tree_net() -> nn.Sequential:
    """Two convolutions with trees of gates, with pools and padding, then a dense layer."""
    model = nn.Sequential(
        Thresholds([0.3, 0.6]),
        TreeConv(2, 4, window=3, depth=2, padding=1, seed=1),
        nn.MaxPool2d(2),
        TreeConv(4, 8, window=3, depth=1, padding=1, groups=2, seed=2),
        nn.Flatten(),
        DenseGates(32, CLASSES * VOTES, seed=3),
        GroupSum(CLASSES, 2.0),
    )
    random_gates(model, seed=4)
    return model.eval()


def inputs(seed: int = 0) -> Tensor:
    return torch.rand(EXAMPLES, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def gate_study(model: nn.Sequential | None = None, **changes: Any) -> mv.Study:
    """The model says its own labels, except of some test examples; the memorized are wrong."""
    model = dense_net() if model is None else model
    x = inputs()
    labels = model(x).argmax(1)
    truth = labels.clone()
    truth[:10] = (labels[:10] + 1) % CLASSES
    labels[80:] = (labels[80:] + 1) % CLASSES
    truth[80:] = labels[80:]
    given: dict[str, Any] = {"groups": GROUPS, "true_labels": truth, "name": "gates"}
    return mv.Study(model, x, labels, **given | {"origin": "gate_study()"} | changes)


def with_settings(model: nn.Sequential, settings: dict[str, dict[int, str]]) -> nn.Sequential:
    """A copy of the model in which gates of layers are others, by their logits alone."""
    import copy

    made = copy.deepcopy(model)
    for name, gates in settings.items():
        module = made.get_submodule(name)
        assert isinstance(module, Gates)
        flat = module.logits.data.view(-1, 16)
        for gate, setting in gates.items():
            own = int(flat[gate].argmax())
            number = {"zero": 0, "constant 1": 15, "input a": 3, "input b": 5}
            flat[gate] = 0.0
            flat[gate, number.get(setting, 15 - own)] = 9.0
    return made
