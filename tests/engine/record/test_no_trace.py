"""Whatever is done, and however it ends, the model and the random state are as they were."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from tests.support.traces import Fragile, no_trace


@pytest.fixture
def study() -> mv.Study:
    torch.manual_seed(1)
    model = Fragile().eval()
    groups = {"memorized": [0, 1], "clean": range(2, 9)}
    return mv.Study(model, torch.randn(9, 1, 5, 5), torch.arange(9) % 3, groups)


def test_the_check_itself_sees_each_trace(study: mv.Study) -> None:
    def hook() -> None:
        study.model.register_forward_hook(lambda *_: None)

    def weight() -> None:
        with torch.no_grad():
            study.model.conv.weight[0, 0, 0, 0] += 1e-6

    traces: list[Callable[[], Any]] = [
        *(hook, weight, study.model.train, lambda: torch.rand(1), random.random),
        *(lambda: setattr(study.model, "forward", None), lambda: study.model.calls.add_(1)),
    ]
    for leave in traces:
        with pytest.raises(AssertionError), no_trace(study.model):
            leave()


def test_a_thousand_toggles(digits: mv.Study) -> None:
    rng = np.random.default_rng(0)
    examples = torch.arange(0, len(digits), 100)
    with no_trace(digits.model):
        session, few = mv.Session(digits), mv.Replay(digits, examples)
        layers = session.known
        for _ in range(1000):
            layer = layers[rng.integers(len(layers))]
            session.toggle(mv.Unit(layer.name, int(rng.integers(layer.units))))
            if rng.random() < 0.1:
                session.undo()
            if rng.random() < 0.02:
                session.reset()
            few.outputs(session.units, str(rng.choice(["zero", "mean", "filter", "resample 1"])))
        replayed = few.outputs(session.units)
        whole = mv.Replay(digits, examples, memory=0).outputs(session.units)
    assert torch.equal(replayed, whole)


@pytest.mark.parametrize("how", ["zero", "mean", "resample 1", "filter"])
def test_every_function(study: mv.Study, how: str) -> None:
    inputs = study.inputs
    with no_trace(study.model):
        effects = mv.sweep(study, how=how, progress=False)
        mv.sweep(study, how=how, progress=False, memory=0)
        mv.estimate(study, how=how)
        mv.readout(study, "conv:1", how, random_draws=2)
        mv.ablation_curve(study, effects.scores(), [0, 2], how, random_draws=2)
        mv.layers(study)
        effects.scores().plot()
        mv.attribute_inputs(study, [0], units="conv:1", how=how, n_steps=2)
        mv.attribute_layers(study, [0, 1], n_steps=2)
        mv.attribute_unit(study, "conv:1", [0], "gradient")
    before = study.model.calls.item()
    with no_trace_but(study.model, "calls", "seen"), mv.ablate(study, "conv:1", how):
        study.model(inputs)
        study.model(inputs[:2])
    assert study.model.calls.item() == before + 2  # the user's own calls count


@contextmanager
def no_trace_but(model: nn.Module, *buffers: str) -> Iterator[None]:
    kept = {name: getattr(model, name).clone() for name in buffers}
    before = {name: getattr(model, name) for name in buffers}
    with no_trace(model):
        yield
        after = {name: getattr(model, name).clone() for name in buffers}
        with torch.no_grad():
            for name in buffers:
                setattr(model, name, before[name].copy_(kept[name]))
    for name, value in after.items():
        getattr(model, name).copy_(value)


WORK: dict[str, Callable[[mv.Study], Any]] = {
    "replay": lambda study: mv.Replay(study).outputs("conv:0"),
    "hook": lambda study: mv.Replay(study, memory=0).outputs("conv:0"),
    "sweep": lambda study: mv.sweep(study, progress=False),
    "sweep by chunks": lambda study: mv.sweep(study, progress=False, memory=0),
    "estimate": mv.estimate,
    "readout": lambda study: mv.readout(study, "conv:1"),
    "session": mv.Session,
    "layers": mv.layers,
    "attribute_inputs": lambda study: mv.attribute_inputs(study, [0], units="conv:1"),
    "attribute_layers": lambda study: mv.attribute_layers(study, [0]),
    "attribute_unit": lambda study: mv.attribute_unit(study, "conv:1", [0]),
}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("wait", [0, 1])
@pytest.mark.parametrize("work", WORK)
def test_an_exception_inside_the_forward_pass(
    study: mv.Study, work: str, wait: int, error: type[BaseException]
) -> None:
    model = study.model
    with no_trace(model):
        model.error, model.wait = error("from inside"), wait
        if work == "layers" and wait:
            model.error = None  # one forward pass is all it takes
            mv.layers(study)
        else:
            with pytest.raises(error, match="from inside"):
                WORK[work](study)
        model.error, model.wait = None, 0
    with no_trace(model):
        assert WORK[work](study) is not None  # and it works again


def test_a_keyboard_interrupt_late_in_a_sweep(study: mv.Study) -> None:
    model = study.model
    replay = mv.Replay(study)
    before = replay.clean.clone()
    with no_trace(model):
        for wait in (5, 7):
            model.error, model.wait = KeyboardInterrupt(), wait
            with pytest.raises(KeyboardInterrupt):
                mv.sweep(study, progress=True)
        model.error, model.wait = None, 0
        assert torch.equal(replay.outputs(""), before)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("wait", [0, 1])
def test_an_exception_inside_ablate(study: mv.Study, wait: int, error: type[BaseException]) -> None:
    model = study.model
    with no_trace_but(model, "calls", "seen"):
        model.error, model.wait = error("from inside"), wait
        with pytest.raises(error, match="from inside"), mv.ablate(model, "conv:0"):
            for _ in range(wait + 1):
                model(study.inputs)
        model.error, model.wait = None, 0
        with pytest.raises(error), mv.ablate(study, "conv:0", "mean"):
            raise error(str(model(study.inputs)))


def test_nested_ablations_end_one_by_one(study: mv.Study) -> None:
    model, inputs = study.model, study.inputs
    with no_trace_but(model, "calls", "seen"), torch.no_grad():
        clean, both = model(inputs), mv.Replay(study).outputs("conv:0-2")
        with mv.ablate(model, "conv:0,1"):
            one = model(inputs)
            with mv.ablate(model, "conv:2"):
                assert torch.allclose(model(inputs), both)
            assert torch.equal(model(inputs), one)
        assert torch.equal(model(inputs), clean)


def test_a_forward_of_the_users_own_comes_back(study: mv.Study) -> None:
    model = study.model
    mine = model.forward
    model.forward = mine
    with no_trace(model), mv.ablate(model, "conv:0"):
        pass
    assert model.__dict__["forward"] is mine


def test_random_numbers_in_the_forward_pass(study: mv.Study) -> None:
    study.model.random = True
    runs: list[Callable[[], Any]] = [
        lambda: mv.sweep(study, progress=False),
        lambda: mv.estimate(study),
        lambda: mv.readout(study, "conv:1", "resample 3", random_draws=3),
    ]
    for run in runs:
        with no_trace(study.model), pytest.raises(ValueError, match="draws random numbers"):
            run()


def test_frozen_weights_and_gradients_stay(study: mv.Study) -> None:
    model = study.model
    model.conv.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    with no_trace(model):
        mv.estimate(study)
        mv.sweep(study, progress=False)
        mv.attribute_layers(study, [0], n_steps=2)
        mv.attribute_inputs(study, [0], n_steps=2)
        mv.attribute_unit(study, "conv:0", [0], n_steps=2)
    assert not study.inputs.requires_grad and study.inputs.grad is None
