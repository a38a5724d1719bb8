"""Density: margins, losses and labels, and studies of a VAE."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import memviz as mv
from memviz.models.vae import MLPVAE, VAE, ConvVAE, binarized, noise
from memviz.tasks import Density

N = 10


def study_of(model: VAE) -> mv.Study:
    images = binarized(torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    held_out = torch.linspace(-48.0, -42.0, N)
    inputs = {"images": images, "noise": noise(range(N), 6, model.latent)}
    groups = {"memorized": range(4), "clean": range(4, N)}
    return mv.Study(model.eval(), inputs, held_out, groups, task=Density())


def test_the_margin_is_the_gain_and_the_loss_the_negative_log_likelihood():
    task, log_p, held_out = Density(), torch.tensor([-3.0, -8.0]), torch.tensor([-5.0, -7.0])
    assert task.outputs(log_p[:, None]).shape == (2,)
    assert task.margin(log_p, held_out).tolist() == [2.0, -1.0]
    assert task.loss(log_p, held_out).tolist() == [3.0, 8.0]
    assert mv.tasks.are_right(task, log_p, held_out).tolist() == [True, False]


@pytest.mark.parametrize(
    "model",
    [MLPVAE(64, (12, 8), 3, seed=0), ConvVAE(8, (3, 4), 3, seed=0)],
    ids=["mlp", "convolutional"],
)
def test_ablating_a_unit_moves_m_as_an_independent_hook_does(model: VAE):
    study = study_of(model)
    effects = mv.sweep(study, progress=False)
    inputs = study.batch(torch.arange(N))
    task = study.task
    before = dict(model.state_dict())
    for row, unit in enumerate(effects.units):
        module = model.get_submodule(unit.layer)

        def zero(_: object, __: object, out: Tensor, index: int = unit.index) -> Tensor:
            flat = out.dim() in (2, 3)  # features last; feature maps have them second
            out = out.clone()
            out[(..., index) if flat else (slice(None), index)] = 0
            return out

        handle = module.register_forward_hook(zero)
        with torch.no_grad():
            margin = task.margin(task.outputs(model(**inputs)), study.labels)
        handle.remove()
        swept = effects.margin[None][0] + effects.margin_change[row]
        torch.testing.assert_close(swept, margin, atol=2e-5, rtol=1e-5)
    assert effects.margin_change.abs().max() > 0.1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_readouts_estimates_and_ablation_work_as_for_any_study():
    study = study_of(MLPVAE(64, (12,), 3, seed=0))
    unit = "decoder.fc1:2"
    reading = mv.readout(study, unit, random_draws=3)
    assert len(reading.random["memorized"]) == 3
    with mv.ablate(study, unit), torch.no_grad():
        outputs = study.model(**study.batch(torch.arange(N)))
    margins = study.task.margin(outputs, study.labels).double()
    assert reading.groups["memorized"].after.margin == pytest.approx(float(margins[:4].mean()))
    assert mv.estimate(study).done.all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Density().outputs(torch.zeros(2, 3)), r"not log p\(x\) of each example"),
        (lambda: Density().outputs(torch.zeros(2).long()), "torch.int64 on cpu of shape"),
        (lambda: Density().outputs("text"), "returned str"),
        (lambda: Density().outputs(torch.zeros(2, device="meta")), "float32 on meta of shape"),
        (lambda: Density().outputs(torch.tensor([0.0, torch.nan])), "NaN for 1 of 2 examples"),
        (lambda: Density().check_labels(torch.zeros(2, 1), "labels"), r"held-out .*, \[n\]"),
        (lambda: Density().check_labels(torch.tensor([torch.nan]), "labels"), "holds nan"),
        (lambda: Density().margin(torch.zeros(2), torch.zeros(2, 1)), "give one held-out"),
    ],
)
def test_bad_input_gets_one_sentence(call: Callable[[], object], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        call()
