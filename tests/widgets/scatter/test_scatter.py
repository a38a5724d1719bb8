"""The scatter of two unit scores, as Python objects: axes, pictures, the still, bad messages."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import memviz as mv
from memviz.engine.activations import top_examples
from memviz.widgets.core import Message
from memviz.widgets.scatter import Scatter, score_scatter, unit_scatter
from memviz.widgets.workbench import Controller
from tests.support.widgets import EVIL, Ear, ask, decoded, flat_study, listening, small_study


def unit_scores(study: mv.Study, name: str = "UnitMem", **changes: Any) -> mv.Scores:
    """Values that can be negative, two of them unknown, in an order of their own."""
    units = [unit for layer in mv.Session(study).known for unit in layer.all()][::-1]
    value = np.linspace(-1, 1, len(units))
    value[[0, 3]] = np.nan
    return mv.Scores(name, "share", value, units=tuple(units), **changes)


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return small_study()


def axes(ear: Ear) -> tuple[str, str]:
    told = ear.of("scatter")[-1]
    return told["x"], told["y"]


@pytest.fixture
def a_unit_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small a network would be swept in one step."""
    monkeypatch.setattr("memviz.engine.sweep._steps._MOST", 1)


def begun(study: mv.Study, units: int) -> tuple[Controller, Ear]:
    """A sweep that has done some units: readout, estimate, then a step a unit."""
    controller, ear = Controller(mv.Session(study), threaded=False), Ear()
    controller.part(Scatter)
    controller.sinks.append(ear)
    controller.receive({"type": "hello"}, ear)
    for _ in range(2 + units):
        controller.worker._step()
    return controller, ear


# What is on the axes ------------------------------------------------------------------------------


def test_the_scores_given_are_shown_first(study: mv.Study) -> None:
    both = {"a": unit_scores(study, "A"), "b": unit_scores(study, "B")}
    for given, expected in (
        ({}, ("estimate", "effect")),
        ({"a": both["a"]}, ("a", "effect")),
        (both, ("a", "b")),
    ):
        shown = score_scatter(study, scores=given)
        assert shown.controller.part(Scatter).axes == expected
        assert shown.part == "scatter"
        shown.close()


def test_another_axis_is_told_with_its_score(study: mv.Study) -> None:
    controller, ear = listening(study, Scatter, scores={"UnitMem": unit_scores(study)})
    ask(controller, ear, "axes", keys={"x": "UnitMem"})
    assert axes(ear) == ("UnitMem", "effect")
    arrays = decoded(ear.last("scores", key="UnitMem"))
    assert np.isnan(arrays["value"]).sum() == 2 and arrays["value"][0] == pytest.approx(1)
    ask(controller, ear, "axes", keys={"y": "conductance"})
    assert axes(ear) == ("UnitMem", "conductance")
    assert ear.last("scores", key="conductance").content["done"] == 20
    # Opening an example changes whose conductance it is, also where no map wears it.
    ear.forget()
    ask(controller, ear, "open", example=3)
    assert "the opened example" in ear.last("scores", key="conductance").content["label"]


def test_exact_values_arrive_in_place(study: mv.Study) -> None:
    controller, ear = listening(study, Scatter, scores={"UnitMem": unit_scores(study)})
    controller.choose_score("UnitMem")
    ask(controller, ear, "axes", keys={"x": "UnitMem", "y": "effect"})
    ear.forget()
    ask(controller, ear, "intervention", key="mean")
    done = [told["done"] for told in ear.of("scores") if told["key"] == "effect"]
    assert done[0] < done[-1] == 20


def test_scores_given_later_are_offered_everywhere(study: mv.Study) -> None:
    session = mv.Session(study)
    bench = mv.workbench(session)
    told: list[Message] = []
    bench.send = lambda content, buffers=None: told.append(Message(content, buffers))
    score_scatter(session, scores=[unit_scores(study, "ClassMem")])
    (picks,) = [content for content, _ in told if content["type"] == "picks"]
    assert picks["scores"][-1] == {
        **{"key": "ClassMem", "label": "ClassMem", "kind": "other", "measure": ""},
        "group": "your own",
    }
    # The same name again is the new values, told at once.
    told.clear()
    twice = unit_scores(study, "ClassMem")
    twice.values[1] = 9.0
    score_scatter(session, scores=[twice])
    kinds = [content["type"] for content, _ in told]
    assert decoded(told[kinds.index("scores")])["value"].tolist().count(9) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"keys": {"x": "nothing"}}, "there is no score 'nothing' to show"),
        ({"keys": {"y": [EVIL]}}, "there is no score"),
        ({"keys": "effect"}, "'axes' needs 'keys', a score for x or y"),
    ],
)
def test_a_bad_axis_is_one_clear_line(study: mv.Study, fields: Any, words: str) -> None:
    controller, ear = listening(study, Scatter)
    ask(controller, ear, "axes", **fields)
    assert words in ear.of("error")[-1]["text"]
    assert controller.part(Scatter).axes == ("estimate", "effect")


@pytest.mark.usefixtures("a_unit_a_step")
def test_no_estimate_stands_in_for_an_exact_effect(study: mv.Study) -> None:
    controller, _ = begun(study, units=4)
    controller.scores.tell_effects("zero")
    shown = controller.scores.shown("effect")
    assert np.isfinite(shown.values).sum() == 4
    assert np.isfinite(controller.scores.shown("estimate").values).all()
    (axes,) = unit_scatter(controller.scores.shown("estimate"), shown).axes
    assert axes.get_title(loc="left").endswith("4 of 20 units")


@pytest.mark.usefixtures("a_unit_a_step")
@pytest.mark.parametrize("by", [("axes", {"keys": {"y": "effect"}}), ("score", {"key": "effect"})])
def test_a_cancelled_sweep_goes_on_when_its_score_is_chosen_again(study: mv.Study, by: Any) -> None:
    controller, ear = begun(study, units=4)
    assert not ear.last("scores", key="effect").content["cancelled"]
    ask(controller, ear, "cancel")
    told = ear.last("scores", key="effect").content
    assert (told["done"], told["total"], told["cancelled"]) == (4, 20, True)
    # What else is asked for leaves it cancelled.
    ask(controller, ear, "axes", keys={"x": "conductance"})
    ask(controller, ear, "toggle", units="fc:1")
    assert int(controller.effects["zero"].done.sum()) == 4
    kind, fields = by
    ask(controller, ear, kind, **fields)
    told = ear.last("scores", key="effect").content
    assert (told["done"], told["cancelled"]) == (20, False)
    exact = mv.sweep(study, progress=False).scores().values
    np.testing.assert_allclose(controller.scores.shown("effect").values, exact, 1e-5, 1e-6)


# Pictures -----------------------------------------------------------------------------------------


def test_an_opened_unit_shows_the_pictures_that_fire_it_most(study: mv.Study) -> None:
    controller, ear = listening(study, Scatter)
    ask(controller, ear, "unit", unit="conv4:2")
    told = ear.last("firing")
    assert (told.content["unit"], told.content["words"]) == ("conv4:2", "")
    examples, values = top_examples(study, 12).of(mv.Unit("conv4", 2))
    np.testing.assert_array_equal(decoded(told)["examples"], examples)
    np.testing.assert_allclose(decoded(told)["values"], values, rtol=1e-6)
    # A click of another kind does not send them again.
    ear.forget()
    ask(controller, ear, "toggle", units="fc:1")
    assert ear.of("firing") == []
    # A new view is told, too; clicking a picture opens it for all.
    later = Ear()
    controller.sinks.append(later)
    ask(controller, later, "hello")
    assert later.of("scatter")[-1]["unit"] == later.of("firing")[-1]["unit"] == "conv4:2"
    ask(controller, ear, "open", example=int(examples[0]))
    assert controller.session.opened == examples[0]


def test_all_units_are_read_in_one_pass(study: mv.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from memviz.widgets.scatter import _scatter as scattered

    passes: list[Any] = []
    real = scattered.top_example_steps

    def counted(*given: Any) -> Any:
        passes.append(given)
        return real(*given)

    monkeypatch.setattr(scattered, "top_example_steps", counted)
    controller, ear = listening(study, Scatter)
    for unit in ("conv4:2", "fc:0", "conv4:2"):
        ask(controller, ear, "unit", unit=unit)
    assert len(passes) == 1
    assert [told["unit"] for told in ear.of("firing")] == ["conv4:2", "fc:0", "conv4:2"]


def test_pictures_are_those_of_the_variant_looked_at() -> None:
    study = small_study()
    state = {name: value.clone() for name, value in study.model.state_dict().items()}
    state["conv1.weight"] = -state["conv1.weight"]
    study = small_study(checkpoints={1: state, 2: study.model.state_dict()})
    controller, ear = listening(study, Scatter)
    ask(controller, ear, "unit", unit="conv1:0")
    now = decoded(ear.last("firing"))["examples"]
    ask(controller, ear, "variant", key="epoch 1")
    assert not np.array_equal(decoded(ear.last("firing"))["examples"], now)


def test_a_dead_unit_and_a_head_are_said_to_have_none() -> None:
    study = flat_study()
    with torch.no_grad():
        study.model[0].weight[3] = 0
        study.model[0].bias[3] = -1
    controller, ear = listening(study, Scatter)
    ask(controller, ear, "unit", unit="0:3")
    assert ear.of("firing")[-1]["words"] == "This unit has the same activation on every example."
    assert decoded(ear.last("firing"))["examples"].size == 0


class Attention(nn.Module):
    """One attention layer over four tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, _ = self.attend(x, x, x, need_weights=False)
        return self.head(found.mean(1))


def test_a_head_has_no_picture_of_its_own() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Attention().eval()
    inputs = torch.randn(12, 4, 8, generator=torch.Generator().manual_seed(0))
    study = mv.Study(model, inputs, torch.arange(12) % 3, {"test": range(12)})
    controller, ear = listening(study, Scatter)
    (heads,) = (layer for layer in controller.session.known if layer.kind == "heads")
    ask(controller, ear, "unit", unit=f"{heads.name}:1")
    assert "An attention head is many features together" in ear.of("firing")[-1]["words"]


def test_a_unit_closes_and_two_are_refused(study: mv.Study) -> None:
    controller, ear = listening(study, Scatter)
    ask(controller, ear, "unit", unit="fc:0")
    ask(controller, ear, "unit", unit="")
    assert ear.of("scatter")[-1]["unit"] == ""
    ask(controller, ear, "unit", unit="fc:0,1")
    assert ear.of("error")[-1]["text"] == "'fc:0,1' is 2 units; open one at a time."
    ask(controller, ear, "unit", unit="fc9:1")
    assert "no layer 'fc9'" in ear.of("error")[-1]["text"]


# The user's own scores in the unit map ------------------------------------------------------------


def test_dead_units_and_negative_values_in_the_unit_map(study: mv.Study) -> None:
    mine = unit_scores(study)
    mine.values[5] = np.inf
    controller, ear = listening(study, Scatter, scores={"UnitMem": mine})
    ask(controller, ear, "score", key="UnitMem")
    told = ear.last("scores", key="UnitMem")
    assert (told.content["kind"], told.content["done"], told.content["total"]) == ("other", 17, 20)
    arrays = decoded(told)
    np.testing.assert_array_equal(arrays["state"] == 0, np.isnan(arrays["value"]))
    # The top are the highest, and units without a value cannot be asked for.
    ask(controller, ear, "top", k=17)
    assert ear.of("error") == []
    ask(controller, ear, "top", k=18)
    assert ear.of("error")[-1]["text"] == "18 units were asked for; 17 have a score to rank by."
    assert controller.scores.ranking("UnitMem")[0] == 0


def test_estimates_of_the_users_own_are_drawn_as_such(study: mv.Study) -> None:
    exact = np.arange(20) % 2 == 0
    mixed = unit_scores(study, "mixed", exact=exact)
    guess = unit_scores(study, "guess", exact=np.zeros(20, bool))
    controller, ear = listening(study, Scatter, scores={"mixed": mixed, "guess": guess})
    assert [score["kind"] for score in controller.scores.picks()][-2:] == ["other", "estimate"]
    for key in ("mixed", "guess"):
        ask(controller, ear, "score", key=key)
    state = decoded(ear.last("scores", key="mixed"))["state"]
    expected = np.where(np.isnan(mixed.values), 0, np.where(exact, 2, 1))[::-1]
    np.testing.assert_array_equal(state, expected)
    # An estimate is never ranked among exact values; all estimates are ranked among themselves.
    assert len(controller.scores.ranking("mixed")) == int((expected == 2).sum())
    assert len(controller.scores.ranking("guess")) == 18


def test_a_name_that_is_taken_is_refused(study: mv.Study) -> None:
    with pytest.raises(ValueError, match="'effect' is a score of every unit map; name yours"):
        score_scatter(study, scores={"effect": unit_scores(study)})
    of_examples = mv.Scores("C-score", "share", np.zeros(60), examples=np.arange(60))
    with pytest.raises(ValueError, match="'C-score' is over examples"):
        score_scatter(study, scores=[of_examples])


# Without a kernel ---------------------------------------------------------------------------------


def test_the_still_is_the_scatter(study: mv.Study) -> None:
    session = mv.Session(study)
    session.ablate("conv4:1 fc:2")
    shown = score_scatter(session, scores=[unit_scores(study), unit_scores(study, EVIL)])
    data, _ = shown._repr_mimebundle_()
    assert data["text/plain"].startswith("memviz scatter of 'strokes'. 2 of 20 units ablated")
    png = re.search(r"data:image/png;base64,([^\"]+)", data["text/html"])
    assert png is not None and EVIL not in data["text/html"]
    with Image.open(io.BytesIO(base64.b64decode(png[1]))) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (colours == [0xD5, 0x5E, 0x00]).all(1).any()  # the × of the ablated
    shown.close()


def test_the_figure_tells_exact_estimates_and_ablated_apart() -> None:
    units = tuple(mv.Unit("fc", i) for i in range(5))
    x = mv.Scores("x", "", np.array([0.0, 1, 2, 3, np.nan]), units=units)
    exact = np.array([True, False, True, True])
    y = mv.Scores("y", "nats", np.array([4.0, 5, 6, 7]), units=units[:4][::-1], exact=exact)
    (axes,) = unit_scatter(x, y, "fc:3").axes
    dots, hollow, crosses = (c.get_offsets().tolist() for c in axes.collections)
    assert dots == [[0, 7], [1, 6]] and hollow == [[2, 5]] and crosses == [[3, 4]]
    assert axes.get_title(loc="left") == "x against y: 4 of 5 units"
    other = mv.Scores("z", "", np.zeros(1), units=(mv.Unit("gc", 0),))
    assert unit_scatter(x, other).axes[0].get_title(loc="left") == "x against z: 0 of 5 units"
    with pytest.raises(ValueError, match="'e' is over examples; give scores over units"):
        unit_scatter(x, mv.Scores("e", "", np.zeros(1), examples=np.zeros(1, int)))
