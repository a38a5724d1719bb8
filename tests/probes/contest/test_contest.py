"""The judge: recall and its chances in closed form, exact damage, anybody's localizer."""

import re
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import memviz as mv
from memviz.probes.contest import Entry, Truth, contest, random_interval
from memviz.probes.contest.figures import recall_curves
from memviz.probes.contest.localizers import exact_ablation
from memviz.units import DeclaredUnits
from tests.support.planted import planted


def scored(values: list[float], layer: str = "0") -> Callable[[mv.Study], mv.Scores]:
    units = tuple(mv.Unit(layer, index) for index in range(len(values)))
    return lambda study: mv.Scores("mine", "guesses", np.array(values, float), units=units)


def entry(order: list[int], right: list[int], k: int, units: int, name: str = "mine") -> Entry:
    ranking = tuple(mv.Unit("fc", index) for index in order)
    return Entry("truth", 0, name, ranking, mv.UnitSet({"fc": right}), k, units, {})


@settings(deadline=None)
@given(
    units=st.integers(1, 40),
    right=st.sets(st.integers(0, 39), min_size=1),
    known=st.integers(0, 40),
    data=st.data(),
)
def test_recall_is_the_share_of_planted_units_among_the_first_k(
    units: int, right: set[int], known: int, data: st.DataObject
) -> None:
    right = {index % units for index in right}
    order = data.draw(st.permutations(range(units)))[:known]
    k = data.draw(st.integers(1, units))
    found = entry(list(order), sorted(right), k, units)
    assert found.recall == pytest.approx(len(set(order[:k]) & right) / len(right))
    curve = [len(set(order[:n]) & right) / len(right) for n in range(units + 1)]
    assert found.curve == pytest.approx(curve)


def test_recall_where_no_truth_is_known() -> None:
    found = entry([0, 1], [], 1, 2)
    assert np.isnan(found.recall) and np.isnan(found.curve).all()


@settings(deadline=None)
@given(units=st.integers(1, 60), data=st.data())
def test_random_interval_is_hypergeometric(units: int, data: st.DataObject) -> None:
    from scipy.stats import hypergeom

    right, k = data.draw(st.integers(1, units)), data.draw(st.integers(1, units))
    chance = hypergeom(units, right, k)
    low, high = random_interval(units, right, k)
    assert (low, high) == (chance.ppf(0.025) / right, chance.ppf(0.975) / right)
    assert low <= k / units <= high or min(k, right, units - k, units - right) <= 1


def test_equal_scores_are_named_at_random_and_reach_the_expected_recall() -> None:
    study, draws = planted(), 100
    truths = [Truth("planted", study, "0:0,1", seed=seed) for seed in range(draws)]
    found = contest(truths, {"nothing": scored([0.0] * 6)}, random_draws=0, progress=False)
    recall = [e.recall for e in found.entries if e.localizer == "nothing"]
    # Hypergeometric: 2 named of 6, 2 planted; the variance of the share is 2/3·1/3·(4/5)/2.
    error = (1 / 3 * 2 / 3 * 4 / 5 / 2 / draws) ** 0.5
    assert abs(np.mean(recall) - 1 / 3) < 4 * error
    random = next(e for e in found.entries if e.localizer == "random")
    assert random.recall == pytest.approx(1 / 3)


def test_the_order_of_equal_scores_depends_on_nothing_else_that_is_judged() -> None:
    def backwards(study: mv.Study) -> mv.Scores:
        units = tuple(mv.Unit("0", index) for index in reversed(range(6)))
        return mv.Scores("mine", "guesses", np.zeros(6), units=units)

    truth = [Truth("planted", planted(), "0:0,1", seed=3)]
    nothing = scored([0.0] * 6)
    rankings = set()
    for chosen in ({"n": nothing}, {"a": nothing, "b": nothing, "n": nothing}, {"n": backwards}):
        entries = contest(truth, chosen, progress=False).entries
        rankings |= {entry.ranking for entry in entries if entry.localizer == "n"}
    assert len(rankings) == 1


def test_damage_is_that_of_exact_ablation() -> None:
    study = planted()
    localizers = {"memory": scored([1, 1, 0, 0, 0, 0]), "class": scored([0, 0, 1, 0.9, 0, 0])}
    truth = Truth("planted", study, "0:0,1")
    found = contest([truth], localizers, progress=False)
    drops = {e.localizer: e.drops for e in found.entries}
    assert drops["planted units"] == drops["memory"] == {"memorized": 1.0, "clean": 0.0}
    # Memorized examples keep their margin. The logits of clean ones all tie at 0, where the first
    # class is predicted: only those of the second class, half of them, become wrong.
    assert drops["class"] == {"memorized": 0.0, "clean": 0.5}
    for e in found.entries[2:]:
        groups = mv.readout(study, e.named, random_draws=0).groups
        for role, name in (("memorized", "memorized"), ("clean", "clean")):
            before, after = groups[name].before.accuracy, groups[name].after.accuracy
            assert e.drops[role] == pytest.approx(before - after)
    assert found.table("net drop").loc["class", "planted"] == -0.5


def test_random_units_lose_what_sets_of_units_lose_on_average() -> None:
    study, draws = planted(), 200
    found = contest([Truth("planted", study, "0:0,1")], {"x": exact_ablation}, random_draws=draws)
    random = next(e for e in found.entries if e.localizer == "random")
    pairs = list(combinations(range(6), 2))
    for role, expected in {
        # Example 0 falls with unit 0, a third of the pairs; example 1 with unit 1, but not if unit
        # 3 goes with it, since the logits then tie and its class is the first: 5 and 4 of 15.
        "memorized": (5 + 4) / 15 / 2,
        # Those of the second class fall with unit 3; those of the first are predicted at a tie.
        "clean": 1 / 3 / 2,
    }.items():
        lost = np.array([_lost(study, pair, role) for pair in pairs])
        assert lost.mean() == pytest.approx(expected)
        assert abs(random.drops[role] - expected) < 4 * lost.std() / draws**0.5


def _lost(study: mv.Study, units: Sequence[int], group: str) -> float:
    """Share of a group that plain arithmetic with these units at zero predicts wrong."""
    layer, _, head = study.model
    assert isinstance(study.inputs, torch.Tensor)
    hidden = study.inputs @ layer.weight.T
    hidden[:, list(units)] = 0
    right = (hidden.relu() @ head.weight.T).argmax(1) == study.labels
    return 1 - right[study.group(group)].double().mean().item()


def test_agreement_with_exact_ablation() -> None:
    study = planted()
    exact = exact_ablation(study).values
    found = contest(
        [Truth("planted", study, "0:0,1")],
        {"same": scored((10 * exact).tolist()), "opposite": scored((-exact).tolist())},
        progress=False,
    )
    assert found.table("agreement")["planted"].to_dict() == pytest.approx(
        {"planted units": np.nan, "random": np.nan, "same": 1.0, "opposite": -1.0}, nan_ok=True
    )


def test_only_some_units_may_be_named() -> None:
    truth = Truth("planted", planted(), "0:1", among="0:1-3")
    found = contest([truth], {"mine": scored([9, 1, 0, 0, 8, 7])}, progress=False)
    mine = found.entries[-1]
    assert (mine.units, str(mine.named), mine.recall) == (3, "0:1", 1.0)
    assert len(mine.ranking) == 3


def test_a_localizer_that_does_not_fit_is_told_and_the_others_go_on() -> None:
    def mine(study: mv.Study) -> mv.Scores:
        raise ValueError("I am for trees.")

    found = contest([Truth("planted", planted(), "0:0")], {"a": mine, "b": exact_ablation})
    assert found.refused == {("planted", "a"): "I am for trees."}
    assert found.localizers == ["planted units", "random", "b"]
    assert "a does not fit planted: I am for trees." in repr(found)


def test_tables_over_seeds_and_their_pictures() -> None:
    truths = [Truth("one", planted(), "0:0,1", seed=seed) for seed in (0, 1)]
    truths.append(Truth("unknown", planted(), k=2))
    found = contest(
        truths, {"mine": scored([3, 0, 2, 1, 0, 0]), "exact": exact_ablation}, progress=False
    )
    assert found.seeds == [0, 1] and found.truths == ["one", "unknown"]
    assert found.table().loc["mine", "one"] == 0.5
    assert np.isnan(found.table().loc["mine", "unknown"])  # type: ignore[arg-type]
    assert "0.50 (0.50 to 0.50)" in found.text()
    frame = found.frame
    assert len(frame) == len(found.entries) == 2 * 4 + 3
    assert frame["random high"].max() == 1.0
    assert len(found.plot().axes) == 3
    assert len([axes for axes in found.plot_curves().axes if axes.get_visible()]) == 1
    assert "<pre>" in found._repr_html_()
    with pytest.raises(ValueError, match="there is no table of 'speed'"):
        found.table("speed")
    with pytest.raises(ValueError, match="'nobody' was not in the contest"):
        found.plot_curves(["nobody"])
    with pytest.raises(ValueError, match="no truth of this contest is known"):
        recall_curves(contest(truths[2:], {"exact": exact_ablation}))


def test_curves_of_seeds_with_more_and_fewer_units_are_drawn_together() -> None:
    truths = [
        Truth("one", planted(), "0:0,1", seed=0),
        Truth("one", planted(), "0:0,1", seed=1, among="0:0-3"),
    ]
    found = contest(truths, {"mine": scored([3, 0, 2, 1, 0, 0])}, progress=False)
    assert {entry.units for entry in found.entries} == {6, 4}
    axes = recall_curves(found).axes[0]
    mine = [line for line in axes.lines if line.get_label() == "mine"]
    assert len(mine) == 1 and len(mine[0].get_xdata()) == 7  # type: ignore[arg-type]
    assert mine[0].get_ydata()[-1] == 1  # type: ignore[index]


def test_every_entry_is_reported_when_it_is_there() -> None:
    seen: list[str] = []
    contest(
        [Truth("planted", planted(), "0:0")],
        {"exact": exact_ablation},
        report=lambda found: seen.append(found.localizer),
    )
    assert seen == ["planted units", "random", "exact"]


@pytest.mark.parametrize(
    ("localizer", "sentence"),
    [
        (lambda study: 3, "localizer 'mine' returned int; expected Scores over units."),
        (
            lambda study: mv.Scores("x", "y", np.ones(2), examples=np.arange(2)),
            "localizer 'mine' returned Scores over examples; expected Scores over units.",
        ),
        (scored([1.0], layer="2"), "localizer 'mine' scored unit 2:0, which truth 'planted'"),
        (scored([1.0] * 9), "localizer 'mine' scored unit 0:6, which truth 'planted'"),
    ],
)
def test_a_wrong_localizer_gets_one_sentence(
    localizer: Callable[[mv.Study], mv.Scores], sentence: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        contest([Truth("planted", planted(), "0:0")], {"mine": localizer}, progress=False)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Truth("mine", planted()), "truth 'mine' has neither planted units nor k"),
        (
            lambda: Truth("mine", planted(), k=np.ones(2)),
            "k is float64 of shape (2,); give a whole",
        ),
        (
            lambda: contest([Truth("mine", planted(), "2:0")]),
            "unit 2:0 of truth 'mine' is planted but may not be named; only units of 0 may",
        ),
        (
            lambda: contest([Truth("mine", planted(), k=7)]),
            "truth 'mine' asks for 7 units, but only 6 may be named; lower k.",
        ),
        (lambda: contest([]), "truths is empty"),
        (lambda: contest([], {}), "localizers is empty"),
        (
            lambda: contest([], {"random": exact_ablation}),
            "'random' is the name of a reference",
        ),
    ],
)
def test_a_wrong_contest_gets_one_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make()


def test_an_unknown_layer_is_told_as_everywhere() -> None:
    with pytest.raises(KeyError, match="there is no layer 'fc9'"):
        contest([Truth("mine", planted(), "fc9:0")])


def test_a_model_in_double_precision_is_judged_too() -> None:
    study = planted()
    model = nn.Sequential(*study.model).double().eval()
    double = mv.Study(model, torch.eye(8).double(), study.labels, study.groups)
    found = contest([Truth("double", double, "0:0,1")], progress=False)
    told = found.table()["double"].drop(["random", "high entropy"])
    assert told.eq(1.0).all()


class HalfDead(nn.Module):
    """Six units of which only the first two are read."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.head = nn.Linear(2, 2, bias=False)
        self.hidden = Declares()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(x @ self.weight)[:, :2])


class Declares(nn.Module):
    declared_units = DeclaredUnits(6, live=lambda model: {"hidden": torch.arange(6) < 2})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh()


def test_random_units_are_those_that_something_reads() -> None:
    torch.manual_seed(1)
    model = HalfDead().eval()
    x = torch.randn(40, 4)
    groups = {"memorized": range(20), "clean": range(20, 40)}
    study = mv.Study(model, x, model(x).argmax(1), groups)
    found = contest([Truth("dead", study, k=2)], {"mine": scored([0, 0, 0, 0, 1, 1], "hidden")})
    entries = {entry.localizer: entry for entry in found.entries}
    both = mv.readout(study, "hidden:0,1", random_draws=0).groups["memorized"].after.accuracy
    assert entries["random"].drops["memorized"] == pytest.approx(1 - both)
    assert entries["mine"].drops["memorized"] == 0 < 1 - both
