"""The cost of a sweep is told in one line, from a timed part alone, and nothing is left behind."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import memviz as mv
from memviz.engine.sweep import Cost, cost, sweep
from tests.support.passages import loud_gpt, study_of


def small() -> mv.Study:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    return mv.Study(model.eval(), torch.randn(9, 4), torch.zeros(9), {"test": range(9)})


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is a second later at each look: every timed part then takes one."""
    seconds = iter(range(1000))
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    monkeypatch.setattr("memviz.engine.sweep._cost.time", clock)


def test_the_line_says_what_is_estimated() -> None:
    told = Cost(46_000, 105, 200, 40.2, 355.0, "graph", "passages")
    assert str(told) == (
        "46,000 units × 105 passages: estimates in about 40 s, the top 200 exactly in about 6 min "
        "more (estimated from a small part)"
    )
    assert ", all exactly in about 2 h more" in str(Cost(10, 5, 10, 0.1, 7000, "graph"))


def test_the_timed_part_is_extrapolated(ticking: None) -> None:
    found = cost(small(), top=5)
    assert (found.units, found.examples, found.top, found.noun) == (14, 9, 5, "examples")
    assert found.estimates == 2.0  # recording and one estimate
    # Of each of two layers: a first unit in 1 s, then four in 1 s, so .75 s of it were checks.
    assert found.exact == pytest.approx(2 * 0.75 + 5 * 0.25)


def test_chunks_that_were_not_timed_count_in_proportion(ticking: None) -> None:
    study = small()
    bytes_of_two = mv.Replay(study, [0, 1]).trace.bytes
    found = cost(study, top=0, memory=6 * 3 * bytes_of_two // 2)  # room for three at a time
    assert found.exact == 0.0
    assert found.estimates == pytest.approx(2.0 * 9 / 3)


def test_passages_are_called_passages_and_the_sweep_agrees_on_the_counts() -> None:
    study = study_of(loud_gpt())
    before = {key: value.clone() for key, value in study.model.state_dict().items()}
    state = torch.get_rng_state()
    found = cost(study, examples=[0, 3], top=4)
    assert "2 passages: estimates in about" in str(found) and found.estimates > 0 < found.exact
    swept = sweep(study, examples=[0, 3], top=4, progress=False)
    assert found.units == len(swept.units) and found.top == int(swept.exact.sum())
    assert found.engine == swept.engine
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, study.model.state_dict()[k]) for k, v in before.items())
    assert all(parameter.grad is None for parameter in study.model.parameters())


def test_what_a_sweep_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="top is 15; this sweep has 14 units to choose from"):
        cost(small(), top=15)
    with pytest.raises(ValueError, match="engine is 'fast'"):
        cost(small(), engine="fast")  # type: ignore[arg-type]
    with pytest.raises(mv.units.UnknownLayerError):
        cost(small(), "nowhere:1")
