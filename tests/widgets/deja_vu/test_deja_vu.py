"""The déjà vu explorer as Python objects: what it is asked, what it tells, what it leaves."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.data.scenes import OBJECTS
from memviz.probes.deja_vu.ablation import Retrieval, random_steps, unit_effects
from memviz.widgets.deja_vu import DejaVuController, DejaVuView
from memviz.widgets.deja_vu import _messages as told
from tests.support.retrievals import small_retrieval

FC = "transformer.resblocks.1.mlp.c_fc"


class Sink:
    def __init__(self) -> None:
        self.got: list[told.Message] = []

    def tell(self, message: told.Message) -> None:
        self.got.append(message)

    def last(self, kind: str) -> dict:
        json.dumps([m.content for m in self.got])  # nothing that JSON lacks
        return next(m.content for m in reversed(self.got) if m.content["type"] == kind)


@pytest.fixture(scope="module")
def retrieval() -> Retrieval:
    return small_retrieval()


@pytest.fixture
def controller(retrieval: Retrieval) -> DejaVuController:
    found = DejaVuController(retrieval, mv.Session(retrieval.study), threaded=False)
    found.sinks.append(Sink())
    return found


@pytest.fixture
def sink(controller: DejaVuController) -> Sink:
    ours = controller.sinks[0]
    controller.hello(ours)
    work(controller)
    return ours


def work(controller: DejaVuController) -> None:
    """Everything but the long sweep."""
    for _ in range(60):
        controller.worker._step()
        controller.worker.drop("sweep")


def test_hello_tells_pairs_one_pair_and_the_figures(
    controller: DejaVuController, sink: Sink, retrieval: Retrieval
) -> None:
    pairs, pair, gaps = (sink.last(kind) for kind in ("pairs", "pair", "gaps"))
    values = [entry["value"] for entry in pairs["pairs"]]
    assert values == sorted(values, reverse=True) and len(values) == 40
    assert pair["row"] == pairs["pairs"][0]["row"] == controller.session.opened
    found = retrieval.clean.found
    ids = found.target.neighbours.ids[pair["row"], :5]
    assert pair["sides"][0]["pictures"] == [40 + int(i) for i in ids]
    assert pair["sides"][0]["recall"] == pytest.approx(float(found.target.recall[pair["row"]]))
    assert pair["objects"] == retrieval.training.objects[pair["row"]].nonzero()[:, 0].tolist()
    assert gaps["figures"][2]["before"] == gaps["figures"][2]["after"] == found.aucg
    assert gaps["sentence"].startswith("All 1,360 units are on")


def test_layers_have_their_path_and_are_called_by_tower_block_and_part(
    controller: DejaVuController, sink: Sink
) -> None:
    layers = {layer["name"]: layer for layer in sink.last("study")["layers"]}
    assert layers[FC]["label"] == "text block 1 · MLP neurons"
    assert layers[f"visual.{FC}"]["one"] == "image block 1 · MLP neuron"
    controller.receive({"type": "toggle", "units": f"{FC}:3"}, sink)
    assert f"{FC}:3" in controller.code() and sink.last("state")["units"] == f"{FC}:3"
    work(controller)
    assert sink.last("gaps")["sentence"].startswith("text block 1 · MLP neuron 3 ablated: ")
    assert sink.last("gaps")["of"] == 1360


def test_a_toggle_moves_everything_and_undo_goes_back(
    controller: DejaVuController, sink: Sink, retrieval: Retrieval
) -> None:
    units = f"{FC}:0-199"
    controller.receive({"type": "toggle", "units": units}, sink)
    work(controller)
    now, row = retrieval.retrieve(units), controller.session.opened
    gaps, pair = sink.last("gaps"), sink.last("pair")
    assert gaps["figures"][2]["after"] == pytest.approx(now.found.aucg)
    assert gaps["figures"][6]["after"] == pytest.approx(now.utility)
    ids = now.found.target.neighbours.ids[row]
    assert pair["sides"][1]["pictures"] == [40 + int(i) for i in ids[:5]]
    before = retrieval.clean.found.target.neighbours.ids[row].tolist()
    assert pair["came"] == [before.index(i) if i in before else -1 for i in ids[:5].tolist()]
    assert pair["lost"] == [i not in ids.tolist() for i in before[:5]]
    chance = sink.last("chance")
    assert chance["draws"] == 5 and 0 <= chance["recall"] <= 1
    draws = list(random_steps(retrieval, mv.UnitSet.parse(units), mv.Zero(), 5))
    assert chance["figures"][2]["mean"] == pytest.approx(np.mean([d.found.aucg for d in draws]))
    for opened in (row, (row + 1) % 40):  # the draws are known of every pair
        controller.receive({"type": "open", "example": opened}, sink)
        work(controller)
        recall = np.mean([float(d.found.target.recall[opened]) for d in draws])
        assert sink.last("chance")["recall"] == pytest.approx(recall)
        assert sink.last("chance")["version"] == sink.last("gaps")["version"]
    controller.receive({"type": "undo"}, sink)
    work(controller)
    assert sink.last("gaps")["figures"][2]["after"] == retrieval.clean.found.aucg


def test_random_units_are_told_of_what_they_were_drawn_for(
    controller: DejaVuController, sink: Sink
) -> None:
    controller.receive({"type": "set", "units": f"{FC}:0-9"}, sink)
    while not any(m.content["type"] == "chance" for m in sink.got):
        controller.worker._step()
    version, row = sink.last("gaps")["version"], sink.last("pair")["row"]
    recall = sink.last("chance")["recall"]
    draws = controller._draws
    assert draws is not None
    # A click while a draw is computed: the session is ahead of what is shown.
    controller.session.toggle(f"{FC}:10-19")
    controller.session.open((row + 1) % 40)
    controller._tell_chance(draws)
    chance = sink.last("chance")
    assert (chance["version"], chance["units"], chance["recall"]) == (version, 10, recall)
    work(controller)
    assert sink.last("chance")["units"] == 20
    assert sink.last("chance")["version"] == sink.last("gaps")["version"] > version


def test_a_whole_layer_has_no_random_units_beside_it(
    controller: DejaVuController, sink: Sink
) -> None:
    controller.receive({"type": "set", "units": f"{FC}:0-255"}, sink)
    work(controller)
    chance = sink.last("chance")
    assert chance["draws"] == 0 and chance["figures"] == []
    assert chance["words"].startswith("All units of these layers are off")


def test_pictures_are_sent_once(sink: Sink, controller: DejaVuController) -> None:
    sheets = [m.content["numbers"] for m in sink.got if m.content["type"] == "tiles"]
    sent = [number for numbers in sheets for number in numbers]
    assert len(sent) == len(set(sent))
    late = Sink()
    controller.hello(late)
    assert sorted(late.last("tiles")["numbers"]) == sorted(sent)


def test_an_edited_caption_is_looked_up(
    controller: DejaVuController, sink: Sink, retrieval: Retrieval
) -> None:
    row = controller.session.opened
    controller.receive({"type": "caption", "text": "a <b>seven</b>"}, sink)
    work(controller)
    pair = sink.last("pair")
    sides = retrieval.ask("a <b>seven</b>", retrieval.training.objects[row])
    assert pair["edited"] and pair["caption"] == "a <b>seven</b>" and not pair["cut"]
    seen = {w for text in retrieval.training.captions for w in re.findall(r"\w+", text.lower())}
    assert pair["private"] == [word for word in ("a", "b", "seven") if word not in seen]
    assert "recall" not in sink.last("gaps")["sentence"]  # nothing is ablated
    controller.receive({"type": "toggle", "units": f"{FC}:3"}, sink)
    work(controller)
    assert "the edited caption's recall" in sink.last("gaps")["sentence"]
    assert "recall" not in sink.last("chance")
    controller.receive({"type": "undo"}, sink)
    controller.receive({"type": "caption", "text": "a seven " * 60 + "and the end"}, sink)
    work(controller)
    assert sink.last("pair")["cut"]
    controller.receive({"type": "caption", "text": "a <b>seven</b>"}, sink)
    work(controller)
    pair = sink.last("pair")
    assert pair["sides"][2]["pictures"] == [40 + int(i) for i in sides[2].neighbours.ids[0, :5]]
    controller.receive({"type": "caption", "text": ""}, sink)
    work(controller)
    assert not sink.last("pair")["edited"]


def test_the_units_that_hold_a_pair(
    controller: DejaVuController, sink: Sink, retrieval: Retrieval
) -> None:
    controller.receive({"type": "score", "key": "pair"}, sink)
    work(controller)
    message = next(m for m in reversed(sink.got) if m.content.get("key") == "pair")
    value, row = np.frombuffer(message.buffers[0], np.float32), controller.session.opened
    images, tokens = (retrieval.study.inputs[key][row][None] for key in ("image", "text"))

    def cosine() -> float:
        image, text, _ = retrieval.target.model(images, tokens)
        return float((image * text).sum())

    with torch.no_grad():
        before = cosine()
        with mv.ablate(retrieval.study, f"{FC}:9"):
            lost = before - cosine()
    place = [str(unit) for unit in controller.scores.units].index(f"{FC}:9")
    assert value[place] == pytest.approx(lost, abs=1e-5)
    controller.receive({"type": "top", "k": 8}, sink)
    work(controller)
    assert len(controller.session.units) == 8
    assert not any(name.endswith(".attn") for name in controller.session.units.layers)


def test_known_effects_are_worn_at_once(retrieval: Retrieval) -> None:
    units = [mv.Unit(FC, index) for index in range(3)]
    retrieval.effects = unit_effects(retrieval, units, progress=False)
    try:
        controller = DejaVuController(retrieval, mv.Session(retrieval.study), threaded=False)
    finally:
        known, retrieval.effects = retrieval.effects, None
    place = [str(unit) for unit in controller.scores.units].index(f"{FC}:0")
    expected = known.values - known.null.values[0]
    assert controller.scores.aucg["zero"][place : place + 3] == pytest.approx(expected)


def test_known_effects_without_their_null_are_not_ranked_beside_those_with_it(
    retrieval: Retrieval,
) -> None:
    units = [mv.Unit(FC, index) for index in range(3)]
    retrieval.effects = replace(unit_effects(retrieval, units, progress=False), null=None)
    try:
        controller = DejaVuController(retrieval, mv.Session(retrieval.study), threaded=False)
    finally:
        retrieval.effects = None
    assert controller.scores.aucg == {}


def test_find_and_sort(controller: DejaVuController, sink: Sink) -> None:
    controller.receive({"type": "list", "sort": "min_dist", "find": OBJECTS[3]}, sink)
    work(controller)
    pairs = sink.last("pairs")
    assert pairs["sort"] == "min_dist"
    assert all(OBJECTS[3] in entry["caption"] for entry in pairs["pairs"])


def test_the_whole_list_can_be_reached(
    controller: DejaVuController, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "LISTED", 15)
    asked = {"type": "list", "sort": "recall_gap low", "find": ""}
    lengths = []
    for more in (False, True, True):
        controller.receive({**asked, "more": more}, sink)
        work(controller)
        values = [entry["value"] for entry in sink.last("pairs")["pairs"]]
        assert values == sorted(values)
        lengths.append(len(values))
    assert lengths == [15, 30, 40]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"type": "list", "sort": "size", "find": ""}, "can't be sorted by 'size'"),
        ({"type": "caption"}, "needs 'text'"),
        ({"type": "score", "key": "effect"}, "no score 'effect'"),
        ({"type": "top", "k": 5000}, "5000 units were asked for"),
        ({"type": "nothing"}, "unknown request, 'nothing'; reload"),
    ],
)
def test_bad_requests_get_one_line(
    controller: DejaVuController, sink: Sink, request_: dict, words: str
) -> None:
    controller.receive(request_, sink)
    assert words in sink.last("error")["text"]


def test_the_code_makes_the_figures_and_the_view(
    controller: DejaVuController, sink: Sink, retrieval: Retrieval, capsys, monkeypatch
) -> None:
    controller.session.ablate(f"{FC}:0-99")
    controller.session.use("mean")
    work(controller)
    row, own = controller.session.opened, retrieval.training.captions
    for text in (None, "a seven"):
        if text is not None:
            controller.receive({"type": "caption", "text": text}, sink)
            work(controller)
        code = controller.code().replace("...  # your Retrieval", "mine")
        assert (repr(own[row]) in code) == (text is None)
        seen = {"mine": retrieval}
        exec(code, seen)
        try:
            session = seen["view"].session
            assert (str(session.units), session.how) == (f"{FC}:0-99", "mean")
            assert session.opened == row
        finally:
            seen["view"].close()
        printed = capsys.readouterr().out.split("\n")
        sides = sink.last("pair")["sides"]
        expected = [sides[0]["recall"], sides[1]["recall"]]
        assert [float(x) for x in printed[-2].split()[:2]] == pytest.approx(expected)


def test_a_sheet_of_pictures_is_never_wide(retrieval: Retrieval) -> None:
    tiles = told.Tiles(retrieval)
    sheets = [*tiles.new(range(60)), *tiles.new(range(100))]
    assert [len(sheet.content["numbers"]) for sheet in sheets] == [60, 40]
    assert len(list(tiles.sheets(list(range(100)) * 3))) == 3


def test_the_view_stands_without_a_browser(retrieval: Retrieval, tmp_path) -> None:
    view = mv.deja_vu(retrieval)
    try:
        assert isinstance(view, DejaVuView) and "starting" in repr(view)
        data, _ = view._repr_mimebundle_()
        assert "data:image/png" in data["text/html"] and "units are on" in data["text/plain"]
        view.export(tmp_path / "page.html")
        assert "déjà vu" in (tmp_path / "page.html").read_text(encoding="utf-8")
    finally:
        view.close()


def test_scores_of_examples_are_refused(retrieval: Retrieval) -> None:
    scores = mv.Scores("s", "nats", np.zeros(2), examples=np.arange(2))
    with pytest.raises(ValueError, match="over examples"):
        mv.deja_vu(retrieval, [scores])


def test_no_trace_is_left(retrieval: Retrieval, controller: DejaVuController, sink: Sink) -> None:
    state = {k: v.clone() for k, v in retrieval.target.model.state_dict().items()}
    controller.session.ablate(f"{FC}:1-5", how="filter")
    work(controller)
    after = retrieval.target.model.state_dict()
    assert all(torch.equal(state[k], after[k]) for k in state)
    assert "forward" not in retrieval.target.model.__dict__
    assert not any(m._forward_hooks for m in retrieval.target.model.modules())


def test_an_opened_held_out_pair_has_no_caption_to_edit(
    controller: DejaVuController, sink: Sink, retrieval: Retrieval
) -> None:
    held_out = len(retrieval.training)
    assert len(controller.session.study) > held_out
    controller.receive({"type": "score", "key": "pair"}, sink)
    for content in ({"type": "open", "example": held_out}, {"type": "caption", "text": "a nine"}):
        controller.receive(content, sink)
        work(controller)
    controller.receive({"type": "code"}, sink)
    assert f"view.session.open({held_out})" in sink.last("code")["text"]
    assert [m for m in sink.got if m.content["type"] == "error"] == []
