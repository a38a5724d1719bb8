"""The playground's Python side: what is built, what owners do, undo, and every refusal."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.demos.digits import examples
from memviz.models.memorizers import construct_memorizer
from memviz.probes.capacity import units_by_training
from memviz.widgets.capacity import _beside
from memviz.widgets.capacity._beside import DRAWN, SIDE, beside, window
from memviz.widgets.capacity._controller import CapacityController
from memviz.widgets.capacity._points import KINDS, MOST, points
from memviz.widgets.capacity._settings import METHODS, Settings


class Sink:
    def __init__(self) -> None:
        self.kept: list[dict] = []

    def tell(self, message) -> None:
        self.kept.append(message.content)

    def last(self, kind: str) -> dict:
        return next(m for m in reversed(self.kept) if m["type"] == kind)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def playground(sink):
    controller = CapacityController(Settings(n=12), threaded=False)
    controller.sinks.append(sink)
    controller.receive({"type": "hello"}, sink)
    settle(controller)
    yield controller
    controller.close()


def settle(controller) -> None:
    controller.worker.drop("needed")
    controller.worker.run_until_idle()


def ask(controller, sink, kind: str, **fields) -> None:
    controller.receive({"type": kind, **fields}, sink)
    settle(controller)


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_stays_whatever_their_number_and_dimension(kind: str) -> None:
    few, many = points(kind, 5, 2, 3, None), points(kind, MOST, 4, 3, None)
    assert torch.equal(few.inputs, many.inputs[:5, :2]) and torch.equal(few.signs, many.signs[:5])
    assert torch.equal(few.unseen, many.unseen[:, :2])
    assert set(few.signs[:2].tolist()) == {-1.0, 1.0}
    assert not torch.equal(few.inputs, points(kind, 5, 2, 4, None).inputs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 7, 30])
def test_every_method_says_the_sign_of_every_point_in_as_many_units_as_listed(
    method: str, n: int
) -> None:
    controller = CapacityController(Settings(n=n, method=method), threaded=False)
    controller._answer()
    reading, network = controller.reading, controller.network
    assert reading.right(reading.before, network.points.signs) == n
    balance = int((network.points.signs > 0).sum())
    assert controller.settings.units(method, (balance, n - balance)) == network.memorizer.units
    assert f"{n} of {n} are right" in controller.sentence
    controller.close()


def test_digits_are_projected_images_that_keep_their_distances_in_all_dimensions() -> None:
    drawn = examples(5)
    pair = [drawn.inputs[drawn.true_labels == digit].flatten(1).double() for digit in (3, 8)]
    shown = points("digits", MOST, 64, 5, None)
    x, signs = torch.cat([shown.inputs, shown.unseen]), torch.cat([shown.signs, shown.true])
    assert [int((signs > 0).sum()), int((signs < 0).sum())] == [len(images) for images in pair]
    assert torch.equal(shown.signs, torch.tensor([1.0, -1.0]).double().repeat(MOST // 2))
    for sign, images in zip((1, -1), pair, strict=True):
        own = x[signs == sign]
        assert torch.allclose(torch.cdist(own, own), torch.cdist(images, images), atol=1e-5)
    assert (x.var(0).diff() < 1e-9).all()  # the widest direction comes first
    with mv.capacity(points="digits", features=64, n=20) as view:
        view.controller.ready()
        assert "20 of 20 are right" in repr(view)
        assert (
            "20 points · digits 3 and 8 on 64 of 64 principal directions"
            in (view.controller.study_message().content["summary"])
        )
        view.set(kind="ring")
        assert view.inputs.shape == (20, 20)


@pytest.mark.parametrize("method", ["yun", "yun relu"])
def test_the_units_of_a_group_are_those_that_are_linear_at_its_points(method: str) -> None:
    controller = CapacityController(Settings(n=14, method=method), threaded=False)
    network = controller.network
    bent = network.memorizer.model.layer1(network.points.inputs).detach()
    if method == "yun":
        linear = bent.abs() < 1
    else:  # relu(z + 1) - relu(z - 1) is linear where the first is on and the second off
        rises, falls = bent.chunk(2, 1)
        linear = ((rises > 0) & (falls < 0)).repeat(1, 2)
    for point, group in enumerate(network.memorizer.groups.tolist()):
        units = [unit.index for unit in network.units_of_group(group)]
        assert units == linear[point].nonzero()[:, 0].tolist()
    controller.close()


def test_one_owner_moves_all_others_by_one_and_two_neighbours_none(playground, sink) -> None:
    ask(playground, sink, "set", units="layer2:1")
    reading, own = playground.reading, playground.network.memorizer.owners == 1
    steps = (reading.after - reading.before)[~own].abs()
    assert torch.allclose(steps, torch.ones_like(steps)) and reading.owners == [1]
    assert "every other point moves by 1" in playground.sentence
    ask(playground, sink, "set", units="layer2:1,2")
    own |= playground.network.memorizer.owners == 2
    assert not playground.reading.moved[~own].any()
    assert "the other 4 keep their value" in playground.sentence
    assert sink.last("capacity")["off"] == [1, 2]


def test_a_click_waits_for_one_step_of_a_training_at_most(sink, monkeypatch) -> None:
    monkeypatch.setattr(_beside, "_known", {})
    taken, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *a: (taken.append(1), step(*a)))
    controller = CapacityController(Settings(n=12), threaded=False)
    controller.sinks.append(sink)
    trained = []  # steps of Adam in each step of background work
    while len(_beside._known) < 2:
        before = len(taken)
        assert controller.worker._step()
        trained.append(len(taken) - before)
        if len(taken) in (100, 700) and trained[-1]:  # beside the methods, and in the search
            before, owner = len(taken), int(len(taken) == 100)
            controller.receive({"type": "set", "units": f"layer2:{owner}"}, sink)
            assert controller.worker._step() and len(taken) == before
            assert sink.last("capacity")["off"] == [owner]
    assert max(trained) == 1 and sum(trained) > 900
    for (n, _), (units, reached) in _beside._known.items():
        row = units_by_training([n], 2, widest=128, progress=False).iloc[0]
        assert (units, reached) == (row.units, row.reached)
    controller.close()


def test_values_are_those_of_the_plain_functions(playground, sink) -> None:
    ask(playground, sink, "set", units="layer2:1")
    network = playground.network
    memorizer = construct_memorizer(
        network.points.inputs, network.points.signs, activation="hardtanh", seed=0
    )
    assert torch.equal(memorizer.model.layer1.weight, network.memorizer.model.layer1.weight)
    everyone = {"points": range(12)}
    x, up = network.points.inputs, network.points.signs > 0
    study = mv.Study(memorizer.model, x, up, everyone, task=mv.tasks.Binary())
    with mv.ablate(study, "layer2:1") as model, torch.no_grad():
        assert torch.allclose(model(x)[:, 0], playground.reading.after)


def test_the_line_goes_through_every_point_in_order(playground) -> None:
    network = playground.network
    assert (network.along.diff() > 0).all()
    for point, place in zip(network.points.inputs, network.places, strict=True):
        nearest = (network.along - place).abs().argmin()
        assert torch.allclose(network.path[nearest], point)


def test_settings_and_units_are_undone_in_their_order(playground, sink) -> None:
    ask(playground, sink, "set", units="layer2:1")
    ask(playground, sink, "capacity_set", key="method", value="bubeck")
    ask(playground, sink, "capacity_set", key="n", value=20)
    assert sink.last("state")["undo"] and str(playground.session.units) == ""
    for n, method, units in ((12, "bubeck", ""), (12, "yun", "layer2:1"), (12, "yun", "")):
        ask(playground, sink, "undo")
        now = playground.settings
        assert (now.n, now.method, str(playground.session.units)) == (n, method, units)
        assert playground.session.study.model is playground.network.study.model
    assert not sink.last("state")["undo"] and sink.last("state")["redo"]
    for _ in range(3):
        ask(playground, sink, "redo")
    assert (playground.settings.n, playground.settings.method) == (20, "bubeck")


def test_float32_is_coarser_and_the_construction_stays_exact(playground, sink) -> None:
    ask(playground, sink, "capacity_set", key="precision", value="float32")
    exact = construct_memorizer(playground.network.points.inputs, playground.network.points.signs)
    assert playground.network.memorizer.error() < 1e-10 < exact.error(torch.float32)
    values = playground.reading.before - playground.network.points.signs
    assert 1e-9 < values.abs().max() < 1e-3


def test_regions_are_what_the_network_says_there() -> None:
    drawn = points("crescents", 12, 2, 0, None)
    found = beside(drawn, Settings(n=12), "yu")
    left, right, low, top = window(drawn)
    row, column = 70, 20
    x = left + (right - left) * column / (SIDE - 1)
    y = low + (top - low) * row / (SIDE - 1)
    made = construct_memorizer(drawn.inputs, drawn.signs, method="yu")
    said = made.model(torch.tensor([[x, y]], dtype=torch.float64)).item()
    assert found.regions[row, column] == (1 if said > 1e-9 else 0 if said < -1e-9 else 2)
    assert set(np.unique(found.regions)) <= {0, 1, 2}
    assert found.covered <= found.test and found.train == 1
    flat = beside(points("crescents", 12, 3, 0, None), Settings(n=12, features=3), "yun")
    assert flat.regions is None and flat.test is not None


def test_what_a_method_refuses_is_told_in_its_row() -> None:
    x = torch.tensor([[0.0, 1], [0, 2], [0, 3], [0, 4]], dtype=torch.float64)
    with mv.capacity(x, [0, 1, 0, 1]) as view:
        found = beside(view.controller.network.points, view.controller.settings, "bubeck")
    assert "lie on no plane of their own" in found.refused and found.units is None


def test_ones_own_points_are_memorized_and_the_rest_are_unseen() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    with mv.capacity(x, (x[:, 0] > 0).long(), n=30, method="zhang") as view:
        assert view.inputs.shape == (30, 3) and len(view.controller.network.points.unseen) == 10
        assert torch.equal(view.signs > 0, x[:30, 0] > 0)
        assert view.memorizer.error() < 1e-8 and len(view.study) == 30
        view.set(n=20)
        assert view.session is view.controller.session and len(view.inputs) == 20
        with pytest.raises(ValueError, match="n is 41; give a whole number from 2 to 40"):
            view.set(n=41)


def test_the_code_it_copies_gives_its_values(playground, sink) -> None:
    for method in METHODS:
        ask(playground, sink, "capacity_set", key="method", value=method)
        ask(playground, sink, "code")
        lines = sink.last("code")["text"].removesuffix("view\n")
        scope: dict = {}
        exec(compile(lines, method, "exec"), scope)  # our own lines
        scope["view"].close()
        assert torch.equal(scope["view"].inputs, playground.network.points.inputs)
        assert scope["memorizer"].units == playground.network.memorizer.units


def test_a_still_picture_shows_the_methods(playground) -> None:
    from memviz.widgets.capacity._still import still

    playground.ready()
    assert set(DRAWN) <= set(playground.compared)
    figure = still(playground.network, playground.reading, playground.compared)
    axes = [axes for part in figure.subfigs for axes in part.axes]
    assert len(axes) == 1 + len(DRAWN)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n": 101}, "n is 101; give a whole number from 2 to 100"),
        ({"features": 21}, "features is 21; give a whole number from 1 to 20"),
        ({"method": "baum"}, "method is 'baum'; choose from yun, yun relu"),
        ({"points": "moons"}, "points is 'moons'; choose from crescents, ring, random"),
        ({"precision": "half"}, "precision is 'half'; choose from float64, float32"),
        ({"widths": (5, 4)}, "5 × 4 = 20 is less than N = 24"),
        ({"widths": (0, 4)}, "widths is (0, 4); give two numbers from 1 to 100"),
        ({"seed": 1000}, "seed is 1000; give a whole number from 0 to 999"),
        ({"inputs": torch.zeros(4, 2)}, "inputs and labels belong together"),
        ({"inputs": torch.zeros(4, 2), "labels": [0, 1]}, "labels has 2 entries for 4 inputs"),
        ({"inputs": torch.zeros(4, 2), "labels": [1, 1, 1, 1]}, "labels holds [1]; give 0 and 1"),
        ({"inputs": torch.zeros(4), "labels": [0, 1, 0, 1]}, "give at least two rows, [n, d]"),
        ({"inputs": torch.zeros(4, 2), "labels": [0, 1, 0, 1]}, "has the same inputs as another"),
        ({"inputs": torch.full((4, 2), torch.nan), "labels": [0, 1, 0, 1]}, "must be finite"),
    ],
)
def test_bad_input_gets_one_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        mv.capacity(**arguments)


def test_a_request_that_is_wrong_leaves_everything_as_it_is(playground, sink) -> None:
    before = playground.settings
    for key, value in (("first", 1), ("n", "many"), ("n", True), ("kind", "<img>"), ("depth", 3)):
        ask(playground, sink, "capacity_set", key=key, value=value)
        assert sink.last("error")["text"].endswith(".") and playground.settings == before
    ask(playground, sink, "capacity_set", key="n")
    assert "n is None" in sink.last("error")["text"]
    ask(playground, sink, "top", k=1)
    assert "ranks no units" in sink.last("error")["text"]
