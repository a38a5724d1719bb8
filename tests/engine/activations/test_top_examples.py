"""The examples that fire a unit most: a slow search agrees, ties and dead units are told apart."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import memviz as mv
from memviz.engine.activations import UnitActivations, tie_order, top_example_steps, top_examples
from tests.support.widgets import flat_study, small_study


def test_a_slow_search_finds_the_same() -> None:
    study = small_study()
    found = top_examples(study, k=5)
    assert [str(unit) for unit in found.units[:2]] == ["conv1:0", "conv1:1"]
    seen: list[torch.Tensor] = []
    handle = study.model.get_submodule("conv3").register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.relu().mean((2, 3)))
    )
    with torch.no_grad():
        study.model(study.inputs)
    handle.remove()
    for channel in range(seen[0].shape[1]):
        values = seen[0][:, channel]
        best = sorted(range(60), key=lambda i: (-float(values[i]), i))[:5]
        best = [i for i in best if values[i] > values.min()]
        examples, activations = found.of(mv.Unit("conv3", channel))
        torch.testing.assert_close(activations, values[best], atol=1e-5, rtol=1e-4)
        assert set(examples.tolist()) == set(best)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-2, 3), min_size=2, max_size=12),
    st.integers(1, 5),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_ties_are_drawn_whatever_the_chunks_and_the_order(
    values: list[int], k: int, size: int, random: Random
) -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.0)
        model[0].weight.fill_(1.0)
    inputs = torch.tensor(values).float()[:, None]
    study = mv.Study(model.eval(), inputs, torch.zeros(len(values)), {"test": range(len(values))})
    asked = list(range(len(values)))
    random.shuffle(asked)
    stream = UnitActivations(study, examples=torch.tensor(asked))
    stream.size = size
    *steps, (done, found) = top_example_steps(stream, k)
    assert done == len(values) and [last for _, last in steps] == [None] * len(steps)
    assert found is not None
    fired = [max(value, 0) for value in values]
    drawn = tie_order(len(values), seed=0).tolist()
    best = sorted(range(len(values)), key=lambda i: (-fired[i], drawn[i]))[:k]
    assert found.examples[0].tolist() == best
    stands_out = [i for i in best if fired[i] > min(fired)]
    assert found.of(mv.Unit("0", 0))[0].tolist() == stands_out


def test_memory_does_not_grow_with_the_examples() -> None:
    found = top_examples(flat_study(examples=300), k=4)
    assert found.examples.shape == found.values.shape == (8, 4)
    assert top_examples(flat_study(examples=3), k=4).examples.shape == (8, 3)


def test_one_clear_sentence() -> None:
    with pytest.raises(ValueError, match="k is 0; ask for at least one example per unit"):
        top_examples(flat_study(), k=0)
    with pytest.raises(KeyError, match="no layer 'fc9'"):
        top_examples(flat_study(), layers=["fc9"])
    with pytest.raises(KeyError, match="activations of 1:0 were not read"):
        top_examples(flat_study(), layers=["0"]).of(mv.Unit("1", 0))


def test_no_trace_is_left() -> None:
    study = small_study()
    before = {name: value.clone() for name, value in study.model.state_dict().items()}
    generator = torch.get_rng_state()
    top_examples(study)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in study.model.modules())
    assert all(torch.equal(before[n], value) for n, value in study.model.state_dict().items())
