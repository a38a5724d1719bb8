"""Indices, labels, groups and inputs on one device, the model on the other: the same figures."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import memviz as mv
from memviz.engine.activations import activation_statistics
from memviz.engine.gradients import gradient_norms
from memviz.probes import attribution, encoders, examples, information, localization
from tests.support.figures import ROUNDING, differing
from tests.support.second_device import DEVICE

QUIET: dict[str, Any] = {"progress": False}
HERE = torch.device("cpu")


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(5, 3)).eval()


def study(model: torch.device, data: torch.device) -> mv.Study:
    """Model and data where they are told to be; groups as indices and as a mask, of the data's."""
    images = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)).to(data)
    labels, wrong = (torch.arange(12) % 3).to(data), torch.arange(12, device=data) < 5
    truth = torch.where(wrong, (labels + 1) % 3, labels)
    groups = {"memorized": torch.arange(5, device=data), "clean": ~wrong}
    moved = net().to(model)
    first = {name: 0.5 * value.to(data) for name, value in moved.state_dict().items()}
    return mv.Study(moved, images, labels, groups, true_labels=truth, checkpoints={0: first})


CALLS: dict[str, Any] = {
    "sweep": lambda s, i: mv.sweep(s, examples=i, **QUIET),
    "sweep by hooks": lambda s, i: mv.sweep(s, examples=i, engine="hook", **QUIET),
    "readout": lambda s, i: mv.readout(s, {"0": i[:2]}, random_draws=1),
    "estimate": lambda s, i: mv.estimate(s, examples=i),
    "ablate": lambda s, i: off(s, i),
    "statistics": lambda s, i: activation_statistics(s, examples=i, **QUIET),
    "gradient norms": lambda s, i: gradient_norms(s, examples=i, **QUIET),
    "unit_mem": lambda s, i: encoders.unit_mem(s, examples=i, random_networks=0, **QUIET),
    "entropy": lambda s, i: information.entropy(s, examples=i, null_draws=1, bins=3, **QUIET),
    "el2n": lambda s, i: examples.el2n(s, examples=i, null_draws=1, **QUIET),
    "saliency": lambda s, i: attribution.attribute_inputs(s, i, "saliency"),
    "layers": lambda s, i: attribution.attribute_layers(s, i),
    "rewinding": lambda s, i: localization.layer_rewinding(s, examples=i, **QUIET),
    "accounting": lambda s, i: localization.gradient_accounting(s, batch_size=4, **QUIET),
}


def off(study: mv.Study, units: torch.Tensor) -> Any:
    with mv.ablate(study.model, {"0": units[:2]}), torch.no_grad():
        return study.model(study.batch(torch.arange(12)))


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return {name: call(study(HERE, HERE), torch.tensor([0, 2, 3])) for name, call in CALLS.items()}


@pytest.mark.parametrize("indices", [HERE, DEVICE], ids=["indices here", "indices there"])
@pytest.mark.parametrize(
    ("model", "data"),
    [(DEVICE, HERE), (HERE, DEVICE), (DEVICE, DEVICE)],
    ids=["model there", "data there", "both there"],
)
@pytest.mark.parametrize("call", CALLS)
def test_the_figures_are_the_same(
    plain: dict[str, Any], call: str, model: Any, data: Any, indices: Any
) -> None:
    given = study(model, data)
    before = copy.deepcopy(given.model.state_dict())
    found = CALLS[call](given, torch.tensor([0, 2, 3]).to(indices))
    assert differing(plain[call], found, ROUNDING) == []
    assert differing(before, given.model.state_dict()) == []
    assert given.device == model
