"""What effects answer: who holds an example, what a unit holds, and which values are exact."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.record import Intervention, Zero
from memviz.engine.record import _passes as passes
from memviz.engine.sweep import (
    Effects,
    estimate_effects,
    estimate_steps,
    new_effects,
    sweep_stream,
)
from memviz.engine.sweep import _steps as steps_of
from memviz.engine.sweep import _sweep as stream


def net(n: int = 24) -> mv.Study:
    """A small net and three groups, nothing planted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 9), nn.ReLU())
    model.append(nn.Linear(9, 3))
    groups = {"memorized": range(6), "clean": range(6, 18), "test": range(18, n)}
    return mv.Study(model.eval(), torch.randn(n, 1, 6, 6), torch.arange(n) % 3, groups)


def planted() -> tuple[mv.Study, dict[int, mv.Unit]]:
    """Two hidden units that each answer one example only, and know its (wrong) label by heart."""
    generator = torch.Generator().manual_seed(0)
    inputs = 0.1 * torch.randn(30, 12, generator=generator)
    inputs[:, 0] = torch.where(torch.arange(30) % 2 == 0, 1.0, -1.0)
    labels = (torch.arange(30) % 2 == 0).long()
    hidden, head = nn.Linear(12, 6), nn.Linear(6, 2)
    with torch.no_grad():
        for parameter in (*hidden.parameters(), *head.parameters()):
            parameter.zero_()
        hidden.weight[0, 0], hidden.weight[1, 0] = 1.0, -1.0  # which class it shows
        head.weight[1, 0], head.weight[0, 1] = 1.0, 1.0
        holders = {}
        for unit, example in ((4, 7), (2, 20)):
            inputs[example, 5 + unit] = 3.0
            hidden.weight[unit, 5 + unit], hidden.bias[unit] = 1.0, -2.0
            labels[example] = 1 - labels[example]
            head.weight[labels[example], unit] = 4.0
            holders[example] = mv.Unit("0", unit)
    model = nn.Sequential(hidden, nn.ReLU(), head).eval()
    clean = [i for i in range(30) if i not in holders]
    return mv.Study(model, inputs, labels, {"memorized": list(holders), "clean": clean}), holders


@pytest.mark.parametrize("make", [mv.sweep, mv.estimate])
def test_who_holds_a_planted_example_and_what_a_planted_unit_holds(
    make: Callable[[mv.Study], Effects],
) -> None:
    study, holders = planted()
    assert mv.readout(study, "").groups["memorized"].before.accuracy == 1.0
    effects = make(study)
    for example, unit in holders.items():
        who, what = effects.of_example(example), effects.of_unit(unit)
        assert who.top(1) == mv.UnitSet([unit]) and what.top(1).tolist() == [example]
        assert who.null is not None and what.null is not None
        row = effects.units.index(unit)
        assert who.values[row] == pytest.approx(4.0, abs=1e-4)
        assert who.values[row] > who.null.interval[1][row]
        assert what.values[example] > what.null.interval[1][example]
        assert np.abs(np.delete(what.values, example)).max() == 0
        assert who.exact is not None and who.exact.all() == (effects.engine != "estimate")


def test_answers_are_the_tables_rows_and_columns() -> None:
    study, examples = net(), torch.tensor([20, 3, 7, 12])
    effects = mv.sweep(study, "3:0-8 0:1", examples, progress=False)
    row = effects.units.index(mv.Unit("3", 4))
    for on, table in (("margin", -effects.margin_change), ("loss", effects.loss_change)):
        who, what = effects.of_example(7, on), effects.of_unit("3:4", on=on)
        assert who.units == effects.units and what.examples is not None
        assert what.examples.tolist() == examples.tolist()
        assert who.values == pytest.approx(table[:, 2].numpy())
        assert what.values == pytest.approx(table[row].numpy())
        assert who.null is not None and what.null is not None
        assert np.sort(who.null.values[:, row]) == pytest.approx(
            np.sort(table[row, [0, 1, 3]].numpy())
        )
        others = [k for k in range(9) if k != row]
        assert np.sort(what.null.values[:, 2]) == pytest.approx(np.sort(table[others, 2].numpy()))
        assert what.top(1) == examples[table[row].argmax()]
    assert "example 7" in who.name and "3:4" in what.name and "nats" in what.measure
    assert f"example {int(what.top(1)[0])}" in repr(what)
    assert effects.of_unit("0:1").null is None  # no other unit of its layer was swept
    alone = mv.sweep(study, examples=torch.tensor([5]), progress=False)
    assert alone.of_example(5).null is None


def test_an_example_like_the_others_lies_inside_its_null() -> None:
    """Examples drawn alike leave the others' 95 % interval about 5 % of the time."""
    effects = mv.sweep(net(200), progress=False)
    inside = []
    for example in range(60):
        scores = effects.of_example(example)
        assert scores.null is not None
        low, high = scores.null.interval
        moves = high > low  # a dead unit has no effect to tell
        inside.append(((low <= scores.values) & (scores.values <= high))[moves].mean())
    assert 0.92 <= np.mean(inside) <= 0.98


def test_the_null_draws_no_more_than_two_hundred() -> None:
    scores = mv.sweep(net(230), "3:0", progress=False).of_example(0)
    assert scores.null is not None and scores.null.values.shape == (200, 1)
    assert "200 other examples" in scores.null.words


def test_what_was_not_swept() -> None:
    effects = mv.sweep(net(), "3:0-3", torch.tensor([4, 9]), progress=False)
    with pytest.raises(IndexError, match="example 5 is not among the 2 swept ones, from 4"):
        effects.of_example(5)
    with pytest.raises(
        ValueError, match=r"unit '3:7' is not among the 4 swept ones, in '3'; choose"
    ):
        effects.of_unit("3:7")
    with pytest.raises(ValueError, match="'nowhere:0' is not among the 4 swept"):
        effects.of_unit(mv.Unit("nowhere", 0))
    with pytest.raises(ValueError, match="'3:0-1' names 2 units; name one, as in 'layer:5'"):
        effects.of_unit("3:0-1")
    for ask in (effects.of_unit, effects.of_example):
        with pytest.raises(ValueError, match="on is 'accuracy'; use 'margin' or 'loss'"):
            ask("3:0" if ask == effects.of_unit else 4, on="accuracy")


def test_a_stream_gives_estimates_then_exact_values_from_the_top() -> None:
    study = net()
    exact, first = mv.sweep(study, progress=False), mv.estimate(study)
    order = np.argsort(-first.scores("memorized", "test").values, kind="stable")
    seen = []
    for effects in sweep_stream(study, group="memorized", against="test"):
        done = effects.done.nonzero()[:, 0].tolist()
        assert set(done) == set(order[: len(done)].tolist())
        assert torch.equal(effects.margin_change[done], exact.margin_change[done])
        assert torch.equal(effects.correct[done], exact.correct[done])
        left = (~effects.done).nonzero()[:, 0]
        assert torch.equal(effects.margin_change[left], first.margin_change[left])
        assert torch.equal(effects.exact, effects.done)
        assert torch.equal(effects.estimated, ~effects.done)
        seen.append(len(done))
    assert seen[0] == 0 and seen[-1] == 14 and len(seen) > 2
    assert seen == sorted(set(seen)) and effects.engine == exact.engine
    assert torch.equal(effects.loss_change, exact.loss_change)


@pytest.mark.parametrize("memory", [None, 0])
def test_the_top_is_exact_and_the_rest_marked(
    memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = net()
    exact, first = mv.sweep(study, progress=False), mv.estimate(study)
    monkeypatch.setattr(passes, "chunk_size", lambda *_, **__: 7)
    monkeypatch.setattr(steps_of, "_SMALLEST", 2)
    effects = mv.sweep(study, top=5, memory=memory, progress=False)
    scores = effects.scores()
    assert scores.exact is not None and scores.exact.sum() == 5
    best = np.argsort(-first.scores().values, kind="stable")[:5]
    assert set(np.flatnonzero(scores.exact)) == set(best)
    wanted = np.where(scores.exact, exact.scores().values, first.scores().values)
    assert scores.values == pytest.approx(wanted, abs=1e-5)
    assert "5 done, 9 estimated" in repr(effects)
    assert "where not, first-order" in scores.source and "exact" in scores.source
    assert set(scores.top(5)) == {effects.units[row] for row in best}  # no estimate before them
    assert effects.of_unit(effects.units[best[0]]).exact.all()
    assert effects.frame["exact"].sum() == 5 * 24
    whole = mv.sweep(study, memory=memory, progress=False)
    assert torch.allclose(whole.margin_change, exact.margin_change, atol=1e-5)


def test_estimates_come_chunk_by_chunk_and_are_those_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, kind = net(), Zero()
    monkeypatch.setattr(passes, "chunk_size", lambda *_, **__: 7)
    replay = mv.Replay(study)
    units = [unit for layer in replay.layers if not layer.is_output for unit in layer.all()]
    wanted, found = estimate_effects(replay, units, kind), new_effects(replay, units, kind)
    steps = estimate_steps(replay, found, kind)
    next(steps)
    assert found.margin_change[:, :7].isfinite().all() and found.margin_change[:, 7:].isnan().all()
    assert len(list(steps)) == replay.steps - 1 == 3
    assert torch.equal(found.margin_change, wanted.margin_change)
    assert torch.equal(found.loss_change, wanted.loss_change) and found.done.all()


def test_a_stream_may_be_left_and_stopped() -> None:
    study = net()
    for effects in sweep_stream(study):
        if effects.done.any():
            break
    assert 0 < effects.done.sum() < 14 and effects.estimated.sum() == 14 - effects.done.sum()
    with pytest.raises(mv.CancelledError, match="cancelled"):
        list(sweep_stream(study, stop=lambda: True))
    assert all(not module._forward_hooks for module in study.model.modules())


@pytest.mark.parametrize("memory", [None, 0])
def test_out_of_memory_in_the_middle_goes_on_with_what_is_left(
    memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, steps, asked = net(), stream.sweep_steps, []
    wanted = mv.sweep(study, progress=False)
    monkeypatch.setattr(steps_of, "_SMALLEST", 5)

    def hungry(
        replay: mv.Replay, effects: Effects, kind: Intervention, order: list[int], fast: object
    ) -> Iterator[float]:
        asked.append((list(order), replay.steps))
        for row in order:
            if row == 8 and replay.steps == 1:
                raise MemoryError
            for _ in steps(replay, effects, kind, [row]):
                pass
            yield float(effects.done[list(order)].sum())

    monkeypatch.setattr(stream, "sweep_steps", hungry)
    with pytest.warns(UserWarning, match="out of memory with chunks of 24 .* going on with 12"):
        effects = mv.sweep(study, memory=memory, progress=False)
    assert effects.done.all()
    assert torch.allclose(effects.margin_change, wanted.margin_change, atol=1e-5)
    again = next(order for order, chunks in asked if chunks == 2)
    assert again[0] == 8  # rows 0 to 7 were done, and are not done again


def test_the_order_where_the_examples_are_in_neither_group() -> None:
    study, examples = net(), torch.arange(18, 24)
    first = mv.estimate(study, examples=examples)
    effects = mv.sweep(study, examples=examples, top=4, progress=False)
    best = np.argsort(-first.margin_change.abs().mean(1).numpy(), kind="stable")[:4]
    assert set(effects.done.nonzero()[:, 0].tolist()) == set(best)
    with pytest.raises(ValueError, match="none of the swept examples is in 'memorized'"):
        mv.sweep(study, examples=examples, top=4, group="memorized", progress=False)


def test_without_estimates_units_come_in_their_order() -> None:
    study = net()
    for effects in sweep_stream(study, "3:0-3", estimates=False):
        assert effects.done.tolist() == [row < int(effects.done.sum()) for row in range(4)]
        assert not effects.estimated.any()
    with pytest.raises(ValueError, match="top chooses units by their estimates"):
        next(sweep_stream(study, estimates=False, top=2))
    for top in (-1, 15):
        with pytest.raises(ValueError, match=f"top is {top}; this sweep has 14 units"):
            mv.sweep(study, top=top, progress=False)


def test_the_estimate_with_other_units_ablated() -> None:
    """Linear behind the last hidden layer: what a unit adds to any set is what it does alone."""
    study = net()
    study.task = LogitTask()
    units = [mv.Unit("3", k) for k in range(9)]
    replay = mv.Replay(study)
    some = mv.UnitSet.parse("3:1,5 0:2")
    base = study.task.margin(replay.outputs(some), study.labels)
    found = estimate_effects(replay, units, Zero(), ablated=some).margin_change
    for row, unit in enumerate(units):
        both = study.task.margin(replay.outputs(some | mv.UnitSet([unit])), study.labels)
        assert torch.allclose(found[row], both - base, atol=1e-5)


def test_estimates_along_the_way_add_up_to_the_effect_of_all() -> None:
    """Completeness of the path integral, by 400 points of the midpoint rule."""
    study = net()
    study.task = LogitTask()
    units = [mv.Unit(layer, k) for layer, count in (("0", 5), ("3", 9)) for k in range(count)]
    replay, total = mv.Replay(study), torch.zeros(24)
    for point in range(400):
        share = (point + 0.5) / 400
        total += estimate_effects(replay, units, Zero(), share=share).margin_change.sum(0) / 400
    outputs = replay.outputs(mv.UnitSet(units))
    wanted = study.task.margin(outputs, study.labels) - study.task.margin(
        replay.clean, study.labels
    )
    assert torch.allclose(total, wanted, atol=0.02) and wanted.abs().max() > 0.2


class LogitTask(mv.Classification):
    """The margin without its maximum: the label's logit."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.gather(1, labels[:, None])[:, 0]


@pytest.mark.parametrize("against", ["clean", ""])
def test_the_order_of_examples_and_units_makes_no_difference(against: str) -> None:
    plain = mv.sweep(net())
    columns = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    rows = torch.randperm(len(plain.units), generator=torch.Generator().manual_seed(2))
    mixed = replace(
        plain,
        units=tuple(plain.units[row] for row in rows),
        **{name: getattr(plain, name)[columns] for name in ("examples", "margin", "loss")},
        **{
            name: getattr(plain, name)[rows][:, columns]
            for name in ("margin_change", "loss_change", "correct")
        },
    )
    answers: list[Callable[[Effects], mv.Scores]] = [
        lambda effects: effects.scores("memorized", against),
        lambda effects: effects.of_example(7),
        lambda effects: effects.of_unit("3:1"),
    ]
    for answer in answers:
        one, other = answer(plain), answer(mixed)
        assert all(np.array_equal(one.top(k), other.top(k)) for k in range(len(one)))
        assert np.array_equal(one.values[one.order()], other.values[other.order()])
        assert one.null is not None and other.null is not None
        assert np.allclose(
            one.null.values[:, one.order()], other.null.values[:, other.order()], atol=1e-6
        )
    assert torch.equal(plain.most_lost(24)[rows], mixed.most_lost(24))


def test_equal_drops_are_listed_by_example() -> None:
    effects = mv.sweep(net(), examples=torch.tensor([9, 3, 20, 1]))
    effects.margin_change[:] = 0
    assert effects.most_lost(9).tolist() == [[1, 3, 9, 20]] * len(effects.units)


@pytest.mark.parametrize("k", [0, -1, 1.5, "2", None, True])
def test_how_many_are_listed(k: int) -> None:
    with pytest.raises(ValueError, match="k is .*; give a whole number from 1"):
        mv.sweep(net(), "0:1").most_lost(k)


def test_names_of_groups_and_numbers_of_rows() -> None:
    effects = mv.sweep(net(), "0:1,2")
    for odd in (3, ["clean"], torch.tensor([1, 2])):
        with pytest.raises(TypeError, match="expected the name of a group, got"):
            effects.scores(odd)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected the name of a group, got"):
            effects.scores("clean", odd)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="on is .*; use 'margin' or 'loss'"):
            effects.of_unit("0:1", on=odd)  # type: ignore[arg-type]
    for wrong in ({"units": 0}, {"units": 1.5}, {"examples": torch.tensor([1, 2])}):
        with pytest.raises(ValueError, match="is .*; give a whole number from 1"):
            effects.atlas(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("example", [1.5, "1", None, True, [1], torch.tensor([1, 2])])
def test_an_example_is_a_whole_number(example: int) -> None:
    with pytest.raises(TypeError, match="example is .*; give its index, a whole number"):
        mv.sweep(net(), "0:1").of_example(example)


@pytest.mark.parametrize("count", [255, 256, 300])
def test_hundreds_of_groups(count: int) -> None:
    study = net(2 * count)
    study = mv.Study(
        study.model, study.inputs, study.labels, {f"g{k}": [2 * k, 2 * k + 1] for k in range(count)}
    )
    effects = mv.sweep(study, "0:0-4")
    last = f"g{count - 1}"
    expected = -effects.margin_change[:, -2:].mean(1) + effects.margin_change[:, :2].mean(1)
    assert torch.allclose(torch.from_numpy(effects.scores(last, "g0").values).float(), expected)
    assert len(mv.readout(study, "0:1").frame) == count


def test_a_sweep_of_nothing_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    mv.sweep(net(), top=0)
    assert "sweep" not in capsys.readouterr().err
    mv.sweep(net(), "3:0-1")
    assert "sweep" in capsys.readouterr().err
