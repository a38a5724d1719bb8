"""Greedy search: planted redundancy, a closed form, an independent reading, and its budget."""

import matplotlib.figure
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.sets import AblationCurve, AblationPath, greedy


class LogitTask(mv.Classification):
    """The margin without its maximum: the label's logit."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.gather(1, labels[:, None])[:, 0]


def net(n: int = 30) -> mv.Study:
    """A small net and three groups, nothing planted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3))
    groups = {"memorized": range(8), "clean": range(8, 20), "test": range(20, n)}
    return mv.Study(model.eval(), torch.randn(n, 6), torch.arange(n) % 3, groups)


def stand_ins(distractors: int = 10) -> mv.Study:
    """Example 0 is held by two units of which either suffices; each distractor holds a bit of it.

    The next layer's unit is relu(1 − a − b): 0 for example 0 as long as one of a, b is there, and
    1 for all others; it takes 5 from the logit of class 1. Each distractor adds 0.05 to class 1.
    """
    n, width = 12, distractors + 2
    inputs = torch.zeros(n, 2)
    inputs[:, 0], inputs[0, 1] = 1.0, 1.0
    first, second, head = nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, 2)
    a, b = 3, 7
    others = [k for k in range(width) if k not in (a, b)]
    with torch.no_grad():
        for parameter in (*first.parameters(), *second.parameters(), *head.parameters()):
            parameter.zero_()
        first.weight[:, 1] = 1.0  # every unit answers example 0 alone
        second.weight[0, [a, b]], second.bias[0] = -1.0, 1.0
        for place, unit in enumerate(others, 1):
            second.weight[place, unit] = 1.0
        head.weight[1, 0], head.bias[1] = -5.0, 2.5
        head.weight[1, 1 : len(others) + 1] = 0.05
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head).eval()
    labels = torch.zeros(n, dtype=torch.long)
    labels[0] = 1
    return mv.Study(model, inputs, labels, {"memorized": [0], "clean": range(1, n)})


PAIR = mv.UnitSet.parse("0:3,7")


def test_units_that_stand_in_for_each_other_are_found_together() -> None:
    study = stand_ins()
    single = mv.sweep(study, "0:0-11", progress=False).scores()
    alone = dict(zip(single.units or (), single.values, strict=True))
    assert all(alone[unit] == 0 for unit in PAIR)
    assert not any(mv.estimate(study, PAIR).scores().values)  # and no slope either
    assert not PAIR & single.top(10)  # every other unit ranks before them
    path = greedy(study, 2, budget=60, units="0:0-11", random_draws=5, progress=False)
    assert path.units == PAIR and path.counts == [0, 2]
    assert path.drops[-1] == pytest.approx(5.0)
    assert path.chosen[-1].tolist() == [0.0, 1.0]  # memorized and clean accuracy
    ranked = mv.readout(study, single.top(2), random_draws=1).groups["memorized"]
    assert ranked.after.accuracy == 1.0


def test_a_pair_is_completed_where_one_of_it_was_taken() -> None:
    """Room for three: the pair comes first, by its drop per unit, then a distractor."""
    path = greedy(stand_ins(), 3, budget=80, units="0:0-11", random_draws=2, progress=False)
    assert set(path.order[:2]) == set(PAIR) and len(path.order) == 3
    assert path.drops[-1] == pytest.approx(5.05)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_where_effects_add_up_the_search_is_the_ranking(size: int) -> None:
    """Linear behind the last hidden layer: the best set is that of the best single units."""
    study = net()
    study.task = LogitTask()
    single = mv.sweep(study, "2:0-6", progress=False).scores()
    path = greedy(study, size, budget=7 * size, units="2:0-6", random_draws=2, progress=False)
    wanted = [row for row in single.order()[:size] if single.values[row] > 0]
    assert single.units is not None
    assert list(path.order) == [single.units[row] for row in wanted]
    assert path.drops[-1] == pytest.approx(single.values[wanted].sum(), abs=1e-5)
    assert path.evaluations <= 7 * size


def read_with_hooks(study: mv.Study, units: mv.UnitSet) -> dict[str, tuple[float, float]]:
    """Accuracy and mean margin of each group, by the context manager and a plain call."""
    with torch.no_grad(), mv.ablate(study, units) as model:
        margin = study.task.margin(model(study.inputs), study.labels)
    found = {name: margin[mask] for name, mask in study.groups.items()}
    return {name: (float((m > 0).float().mean()), float(m.mean())) for name, m in found.items()}


@pytest.mark.parametrize("against", ["clean", "test", ""])
def test_what_it_reports_equals_a_plain_forward_pass(against: str) -> None:
    study = net()
    path = greedy(study, 5, "memorized", against, budget=75, random_draws=3, seed=4, progress=False)
    assert path.counts[0] == 0 and path.counts[-1] == len(path.order) == len(path.units)
    assert (np.diff(path.drops) > 0).all()
    clean = read_with_hooks(study, mv.UnitSet())
    for k, units in enumerate(path.sets):
        assert len(units) == path.counts[k] and units - path.units == mv.UnitSet()
        found = read_with_hooks(study, units)
        for g, name in enumerate(path.groups):
            assert path.chosen[k, g] == pytest.approx(found[name][0])
            assert path.margin[k, g] == pytest.approx(found[name][1], abs=1e-5)
        fall = {name: clean[name][1] - found[name][1] for name in clean}
        wanted = fall["memorized"] - (fall[against] if against else 0)
        assert path.drops[k] == pytest.approx(wanted, abs=1e-5)
    assert path.random.shape == path.random_margin.shape == (3, len(path.counts), 3)
    assert (path.random[:, 0] == path.chosen[0]).all()


def test_the_first_unit_is_the_best_of_all_where_the_budget_lets_it_try_them() -> None:
    study = net()
    for how in ("zero", "mean", "filter"):
        single = mv.sweep(study, how=how, progress=False).scores()
        path = greedy(study, 1, how=how, budget=120, random_draws=1, progress=False)
        assert path.units == single.top(1)
        assert path.drops[-1] == pytest.approx(single.values.max(), abs=1e-5)


@pytest.mark.parametrize("budget", [4, 5, 9, 40, 100])
def test_it_spends_no_more_than_its_budget(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    study, asked = net(), []
    outputs = mv.Replay.outputs

    def counted(replay: mv.Replay, *given: object, **more: object) -> Tensor:
        if more.get("keep"):  # the search's; the readings of the curve are not kept
            asked.append(given[0])
        return outputs(replay, *given, **more)

    monkeypatch.setattr(mv.Replay, "outputs", counted)
    path = greedy(study, 4, budget=budget, random_draws=1, progress=False)
    assert len(asked) == path.evaluations <= budget
    assert 1 <= len(path.order) <= 4
    assert f"{path.evaluations} exact evaluations" in path.name
    assert len(set(asked)) >= len(asked) - 8  # pairs looked at twice at most


def test_it_ends_where_nothing_helps() -> None:
    """One unit holds the example, none other does anything."""
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].weight[2, 1], model[2].weight[1, 2], model[2].bias[0] = 1.0, 3.0, 1.0
    inputs = torch.tensor([[1.0, 1.0], [1.0, 0.0], [2.0, 0.0]])
    study = mv.Study(model, inputs, torch.tensor([1, 0, 0]), {"memorized": [0], "clean": [1, 2]})
    path = greedy(study, 4, budget=50, random_draws=2, progress=False)
    assert str(path.units) == "0:2" and path.counts == [0, 1]
    nothing = greedy(study, 2, "clean", "memorized", budget=20, random_draws=2, progress=False)
    assert nothing.units == mv.UnitSet() and nothing.counts == [0]
    assert isinstance(nothing.plot(), matplotlib.figure.Figure)


def test_some_examples_only() -> None:
    study, some = net(), torch.tensor([0, 3, 5, 9, 12, 15, 19])
    path = greedy(study, 3, budget=60, examples=some, random_draws=1, progress=False)
    assert path.groups == ["memorized", "clean"]
    with torch.no_grad(), mv.ablate(study, path.units) as model:
        margin = study.task.margin(model(study.inputs), study.labels)
    wanted = [float(margin[some[:3]].mean()), float(margin[some[3:]].mean())]
    assert path.margin[-1] == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(ValueError, match="none of the examples is in 'test'"):
        greedy(study, 1, against="test", examples=some)


def test_its_table_and_figure() -> None:
    path = greedy(net(), 4, budget=40, random_draws=3, progress=False)
    assert isinstance(path, AblationPath) and isinstance(path, AblationCurve)
    frame = path.frame
    assert len(frame) == len(path.counts) * 3
    row = frame[(frame.group == "clean") & (frame.units == path.counts[-1])].iloc[0]
    assert row.accuracy == path.chosen[-1, 1] and row.margin == path.margin[-1, 1]
    assert row.random_margin == pytest.approx(path.random_margin[:, -1, 1].mean())
    assert row["drop"] == path.drops[-1]
    assert "greedy search" in path.plot().axes[0].get_title(loc="left")
    assert "greedy search" in repr(path)


def test_without_a_null_it_says_so() -> None:
    path = greedy(net(), 3, budget=40, random_draws=0, progress=False)
    same = greedy(net(), 3, budget=40, random_draws=2, progress=False)
    assert path.order == same.order and (path.chosen == same.chosen).all()
    null = {"random_mean", "random_low", "random_high", "random_margin"}
    assert set(same.frame.columns) - set(path.frame.columns) == null
    assert path.frame.equals(same.frame[path.frame.columns])
    assert "no null" in repr(path) and "no null" not in repr(same)
    labels = [text.get_text() for text in path.plot().axes[0].get_legend().get_texts()]
    assert labels[-1] == "no null: no random units drawn"
    with pytest.raises(ValueError, match="there is no null: random_draws was 0"):
        path.random_mean  # noqa: B018
    with pytest.raises(ValueError, match="random_draws is -1; it must be at least 0"):
        greedy(net(), 3, random_draws=-1)


def test_the_same_twice_and_no_trace() -> None:
    study = net()
    before = {name: value.clone() for name, value in study.model.state_dict().items()}
    state = torch.get_rng_state()
    one, two = (greedy(study, 4, budget=40, random_draws=2, progress=False) for _ in "ab")
    assert one.order == two.order and one.frame.equals(two.frame)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[n], v) for n, v in study.model.state_dict().items())
    assert all(not module._forward_hooks for module in study.model.modules())
    less = greedy(study, 4, budget=40, random_draws=2, memory=0, progress=False)
    assert less.order == one.order and less.margin == pytest.approx(one.margin, abs=1e-5)


def test_bad_input_and_cancelling() -> None:
    study = net()
    for size in (0, 16):
        with pytest.raises(ValueError, match=f"size is {size}; there are 15 units to choose from"):
            greedy(study, size)
    with pytest.raises(
        ValueError, match="budget is 3 for 4 units; allow at least one evaluation per unit"
    ):
        greedy(study, 4, budget=3)
    with pytest.raises(ValueError, match="there is no group 'tset'; this study has memorized"):
        greedy(study, 2, "tset")
    with pytest.raises(ValueError, match="group and against are both 'clean'; name two groups"):
        greedy(study, 2, "clean", "clean")
    with pytest.raises(KeyError, match="there is no layer 'nowhere'"):
        greedy(study, 1, units="nowhere:0")
    with pytest.raises(mv.CancelledError):
        greedy(study, 2, progress=False, stop=lambda: True)


def test_the_order_of_the_candidates_does_not_matter() -> None:
    study = net()
    forth = greedy(study, 4, budget=40, units="0:0-7 2:0-6", random_draws=2, progress=False)
    back = {"2": range(6, -1, -1), "0": range(7, -1, -1)}
    other = greedy(study, 4, budget=40, units=back, random_draws=2, progress=False)
    assert forth.order == other.order and (forth.random == other.random).all()


def test_of_equal_candidates_the_first_in_the_forward_pass_is_taken() -> None:
    """Four units with one weight each: twins of two kinds."""
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0]]))
        model[2].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]]))
    inputs = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
    groups = {"memorized": [0, 1], "clean": [2]}
    study = mv.Study(model.eval(), inputs, torch.tensor([1, 1, 1]), groups)
    for units in ("0:0-3", {"0": [3, 2, 1, 0]}):
        path = greedy(study, 2, budget=20, units=units, random_draws=1, progress=False)
        assert [str(unit) for unit in path.order] == ["0:0", "0:2"]
