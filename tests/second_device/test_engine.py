"""The engine on a second device: every figure is the CPU's, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.engine.activations import activation_statistics, top_examples
from memviz.engine.gradients import gradient_norms
from memviz.engine.search import nearest
from tests.support.figures import ROUNDING, differing
from tests.support.nets import Counted, InPlace
from tests.support.second_device import DEVICE

Pair = tuple[mv.Study, mv.Study]
GROUPS = {"memorized": range(4), "clean": range(4, 12)}
QUIET: dict[str, Any] = {"progress": False}


class Small(nn.Module):
    """Convolutions, batch norm, a pool, layer norm and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 4, 3, groups=2)
        self.hidden, self.scale, self.head = nn.Linear(36, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        x = F.pad(F.gelu(self.two(x)), (0, 1, 0, 1))
        return self.head(self.scale(F.relu(self.hidden(x.flatten(1)))))


def pair_of(model: nn.Module, inputs: Tensor, labels: Tensor, **more: Any) -> Pair:
    """The same study with its model on the CPU and on the second device; both keep data here."""
    here, there = model.eval(), copy.deepcopy(model).eval().to(DEVICE)
    return tuple(mv.Study(m, inputs, labels, GROUPS, **more) for m in (here, there))  # type: ignore[return-value]


def augment(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows + 0.1 * torch.randn(rows.shape, generator=generator).to(rows.device)


@pytest.fixture(scope="module")
def studies() -> dict[str, Pair]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, labels = torch.randn(12, 3, 8, 8), torch.arange(12) % 3
        models = {"small": Small(), "in_place": InPlace(), "counted": Counted()}
        return {name: pair_of(model, images, labels) for name, model in models.items()}


def same(call: Any, pair: Pair, within: float = 0.0) -> None:
    assert pair[1].device == DEVICE
    assert differing(call(pair[0]), call(pair[1]), within) == []


HOWS = ["mean", "filter", mv.Resample(seed=1), mv.Scale(0.5)]
SWEPT = [(net, "zero") for net in ("small", "in_place", "counted")]


@pytest.mark.parametrize(("net", "how"), [*SWEPT, *(("small", how) for how in HOWS)])
@pytest.mark.parametrize("engine", ["graph", "replay", "hook"])
def test_sweeps(studies: dict[str, Pair], net: str, engine: Any, how: Any) -> None:
    here, there = (mv.sweep(study, how=how, engine=engine, **QUIET) for study in studies[net])
    assert studies[net][1].device == DEVICE
    assert differing(here, there, ROUNDING if engine == "graph" else 0) == []


@pytest.mark.parametrize("net", ["small", "in_place"])
def test_estimates(studies: dict[str, Pair], net: str) -> None:
    same(mv.estimate, studies[net])


def toggled(study: mv.Study) -> Any:
    """Outputs after each click, as a workbench asks for them."""
    session, found = mv.Session(study), []
    first = mv.layers(study)[0].name
    for units in ({first: [1]}, {first: [0]}, {first: [1]}):
        session.toggle(units)
        found.append(session.toggles.outputs(session.units, mv.Zero()).clone())
    return found


CALLS: dict[str, Any] = {
    "readout": lambda study: mv.readout(study, {mv.layers(study)[0].name: [0, 2]}, random_draws=2),
    "greedy": lambda study: mv.greedy(study, 3, random_draws=2, **QUIET),
    "curve": lambda study: mv.ablation_curve(
        study, mv.estimate(study).scores("memorized", "clean"), (0, 1, 2), random_draws=2, **QUIET
    ),
    "statistics": lambda study: activation_statistics(study, median=True, **QUIET),
    "statistics of copies": lambda study: activation_statistics(study, None, augment, 2, **QUIET),
    "top examples": lambda study: top_examples(study, 3, **QUIET),
    "gradient norms": lambda study: gradient_norms(study, **QUIET),
    "ablate": lambda study: ablated(study),
}


BY_GRAPH = {"readout", "greedy", "curve"}


def ablated(study: mv.Study) -> Any:
    with mv.ablate(study.model, {mv.layers(study)[0].name: [0]}), torch.no_grad():
        off = study.model(study.inputs.to(study.device))  # type: ignore[union-attr]
    return off, study.model(study.inputs.to(study.device)).detach()  # type: ignore[union-attr]


@pytest.mark.parametrize("call", CALLS)
def test_sets_and_streams(studies: dict[str, Pair], call: str) -> None:
    same(CALLS[call], studies["small"], ROUNDING if call in BY_GRAPH else 0)


def test_a_session_that_is_clicked(studies: dict[str, Pair]) -> None:
    same(toggled, studies["small"], ROUNDING)


@pytest.mark.parametrize("measure", ["euclidean", "cosine"])
def test_neighbours(measure: Any) -> None:
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    here = nearest(rows[:9], rows[9:], 3, measure=measure, **QUIET)
    there = nearest(rows[:9].to(DEVICE), rows[9:].to(DEVICE), 3, measure=measure, **QUIET)
    assert differing(here, there) == []


def test_the_model_is_as_it_was(studies: dict[str, Pair]) -> None:
    model = studies["small"][1].model
    before = copy.deepcopy(model.state_dict())
    state = torch.standin.get_rng_state()  # type: ignore[attr-defined]
    mv.sweep(studies["small"][1], **QUIET)
    toggled(studies["small"][1])
    assert differing(before, model.state_dict()) == []
    assert torch.equal(state, torch.standin.get_rng_state())  # type: ignore[attr-defined]
