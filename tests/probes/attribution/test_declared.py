"""Attribution to units that a module declares, against what a plain hook changes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.probes.contest import LOCALIZERS
from memviz.units import DeclaredUnits


class Grid(nn.Module):
    """Units along two axes, ``[n, 2, 3, positions]``, flattened to six."""

    declared_units = DeclaredUnits(6, axis=(1, 2), kind="grid")

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), 2, 3, 2).sin()


def _study() -> mv.Study:
    torch.manual_seed(0)
    model = nn.Sequential(Grid(), nn.Flatten(), nn.Linear(12, 3)).eval()
    groups = {"memorized": range(4), "clean": range(4, 10)}
    return mv.Study(model, torch.randn(10, 12), torch.arange(10) % 3, groups)


def _lost(study: mv.Study, unit: int) -> float:
    """Logit of the label lost with a unit at 0, memorized minus clean."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, unit // 3, unit % 3] = 0
        return output

    label = torch.arange(10), study.labels
    with torch.no_grad():
        before = study.model(study.inputs)[label]
        handle = study.model[0].register_forward_hook(hook)
        after = study.model(study.inputs)[label]
        handle.remove()
    lost = before - after
    return float(lost[:4].mean() - lost[4:].mean())


# What follows the units is linear: each of these is the logit that a unit gives.
@pytest.mark.parametrize("name", ["feature ablation", "gradient × activation", "conductance"])
def test_a_localizer_finds_what_a_hook_takes_away(name: str) -> None:
    study = _study()
    scores = LOCALIZERS[name](study)
    assert [str(unit) for unit in scores.units] == [f"0:{unit}" for unit in range(6)]
    wanted = torch.tensor([_lost(study, unit) for unit in range(6)])
    tolerance = 0.02 if name == "conductance" else 1e-4  # its path integral is a sum of steps
    torch.testing.assert_close(
        torch.tensor(scores.values).float(), wanted, atol=tolerance, rtol=tolerance
    )


def test_what_reads_weights_says_that_declared_units_have_none() -> None:
    with pytest.raises(ValueError, match="TracIn of a unit reads the weights of convolutions"):
        LOCALIZERS["TracIn of a unit"](_study())


def test_one_unit_is_attributed_to_the_inputs_that_make_it() -> None:
    study = _study()
    found = mv.attribute_unit(study, "0:4", method="gradient", examples=[0])
    reached = found.reshape(12) != 0
    assert reached.nonzero()[:, 0].tolist() == [8, 9]
