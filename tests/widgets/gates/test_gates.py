"""The gate map's session, controller and messages, without a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.engine.circuits import random_settings
from memviz.session import GateSession
from memviz.widgets.gates._controller import RANDOM_DRAWS, GateController
from memviz.widgets.gates._curves import charts, check_curves
from tests.support.gates import CURVES, gate_study, tree_net
from tests.support.widgets import Ear, ask, decoded, hostile_study, listening, pair_study

LIVE_WORDS = r"\d+ of \d+ live gates set: memorized 100% → \d+%, clean"


class Heard:
    """A controller that computes on demand, and a view that has said hello."""

    def __init__(self, study: mv.Study | None = None, curves: Any = None) -> None:
        self.session = GateSession(gate_study() if study is None else study)
        lines = None if curves is None else check_curves(curves)
        self.controller = GateController(self.session, lines, threaded=False)
        self.ear = Ear()
        self.controller.sinks.append(self.ear)
        self.ask("hello")

    def ask(self, kind: str, **fields: Any) -> None:
        self.controller.receive({"type": kind, **fields}, self.ear)
        self.controller.worker.run_until_idle()

    def last(self, kind: str, **wanted: Any) -> dict[str, Any]:
        return self.ear.last(kind, **wanted).content


@pytest.fixture
def heard() -> Heard:
    return Heard(curves=CURVES)


def live_rows(heard: Heard) -> list[int]:
    return np.flatnonzero(heard.session.circuits.circuit.live).tolist()


def test_opens_with_a_traced_example_and_a_gate_that_votes_for_what_it_says(heard: Heard) -> None:
    state, trace = heard.last("state"), heard.last("gate_trace")
    assert state["opened"] == 0 and state["chosen"] == trace["row"] == trace["tree"]["row"]
    said = int(heard.session.circuits.before.predictions[0])
    assert (trace["row"] - 50) // 6 == said == trace["said"] and trace["tree"]["bit"] == 1
    assert trace["votes"] == heard.session.circuits.before.votes[0].tolist()
    assert heard.controller.sentence == (
        "Every gate is as trained: memorized 100%, clean 100%, test 67%. Choose a gate and set it."
    )
    arrays = decoded(heard.ear.last("gate_trace"))
    assert len(arrays["share"]) == 74 and len(arrays["inputs"]) == 32


def test_the_wires_are_those_of_the_model(heard: Heard) -> None:
    arrays, model = decoded(heard.ear.last("gates")), heard.session.study.model
    wires = [layer.wires.numpy() for layer in list(model.children())[2:5]]
    assert (arrays["a"][:20] == 2**31 + wires[0][0]).all()
    assert (arrays["b"][20:50] == wires[1][1]).all()
    assert (arrays["a"][50:] == 20 + wires[2][0]).all()


def test_settings_are_answered_as_the_engine_answers_them(heard: Heard) -> None:
    study, units = heard.session.study, "2.gates:3 3.gates:5,7 4.gates:1"
    live = [row for row in heard.session.rows(units) if row in live_rows(heard)]
    units = str(heard.session.units_of(dict.fromkeys(live, "")))
    for how in ("zero", "constant 1", "input a", "input b", "negation"):
        heard.ask("reset")
        heard.ask("fix", gates=units, to=how)
        told = heard.last("readout")
        expected = mv.readout(study, units, how, random_draws=0)
        for group in told["groups"]:
            found = expected.groups[group["name"]]
            assert group["after"]["correct"] == found.after.correct
            assert group["right_to_wrong"] == found.right_to_wrong
            assert group["now_true"] == found.now_true
        change = decoded(heard.ear.last("readout"))["change"]
        assert change == pytest.approx(2 * expected.margin_change.numpy(), abs=1e-4)


def test_gates_are_set_undone_and_rebuilt_from_code(heard: Heard) -> None:
    row = live_rows(heard)[4]
    unit = str(heard.session.units_of({row: ""}))
    heard.ask("fix", gates=unit, to="negation")
    words = r"Layer 1 gate \d+ negated: memorized 10 → \d+ of 10, clean .* → \d+ of 30\."
    assert re.match(words, heard.controller.sentence)
    assert heard.last("state")["settings"] == {"negation": [row]}
    heard.ask("fix", gates=unit, to="zero")
    heard.ask("undo")
    assert heard.session.settings == {row: "negation"}
    heard.ask("redo")
    heard.ask("choose", row=live_rows(heard)[-1])
    heard.ask("open", example=7)
    code = heard.controller.code()
    made: dict[str, Any] = {"gate_study": gate_study, "CURVES": CURVES}
    code = code.replace("...  # your table", "CURVES")
    exec(code.rsplit("view\n", 1)[0], made)  # as a notebook runs it
    with made["view"] as view:
        assert view.session.settings == {row: "zero"} and view.session.opened == 7
        assert view.controller.chosen == live_rows(heard)[-1]
    heard.ask("fix", gates=unit, to="")
    assert heard.session.settings == {}


def test_the_top_gates_are_those_whose_ablation_takes_most(heard: Heard) -> None:
    circuits = heard.session.circuits
    lost = np.full((2, 74), -np.inf)
    for row in live_rows(heard):
        for k, constant in enumerate(("zero", "constant 1")):
            change = (circuits.before.margins - circuits.read({row: constant}).margins).double()
            lost[k, row] = float(change[:10].mean() - change[10:60].mean())
    best = np.argsort(-lost.max(0), kind="stable")[:5]
    heard.ask("top", k=5)
    wanted = {int(row): ("zero", "constant 1")[int(lost[1, row] > lost[0, row])] for row in best}
    assert heard.session.settings == wanted and heard.last("state")["top"] == 5
    assert re.match(LIVE_WORDS, heard.controller.sentence)
    random = heard.last("random")
    assert random["draws"] == RANDOM_DRAWS and "each set to the constant" in random["words"]
    better = {row: ("zero", "constant 1")[int(lost[1, row] > lost[0, row])] for row in range(74)}
    read = [
        circuits.read(random_settings(circuits.circuit, wanted, draw, better)).groups["clean"]
        for draw in range(RANDOM_DRAWS)
    ]
    clean = next(group for group in random["groups"] if group["name"] == "clean")
    assert clean["accuracy"] == pytest.approx(np.mean([group.accuracy for group in read]))
    assert clean["margin"] == pytest.approx(np.mean([group.margin for group in read]))
    heard.ask("score", key="constant 1")
    heard.ask("top", k=2)
    assert set(heard.session.settings.values()) == {"constant 1"}
    heard.ask("top", k=1000)
    assert "1000 gates were asked for" in heard.last("error")["text"]


def test_a_dead_gate_is_told_of_and_left_alone(heard: Heard) -> None:
    dead = next(row for row in range(74) if row not in live_rows(heard))
    heard.ask("fix", gates=str(heard.session.units_of({dead: ""})), to="zero")
    assert "is dead: nothing reads it" in heard.last("error")["text"]
    assert heard.session.settings == {}
    values = decoded(heard.ear.last("scores", key="better"))["value"]
    assert np.isnan(values[dead]) and np.isfinite(values[live_rows(heard)]).all()
    heard.ask("fix", gates="2.gates:1", to="upside down")
    assert "can't be set to 'upside down'; choose from zero" in heard.last("error")["text"]
    heard.ask("choose", row=999)
    assert "there is no gate 999" in heard.last("error")["text"]


def test_all_live_gates_of_a_layer_have_no_null(heard: Heard) -> None:
    layer = heard.session.circuits.circuit.layers[2]
    heard.session.set_all(dict.fromkeys(range(layer.start, layer.start + layer.gates), "zero"))
    heard.controller.worker.run_until_idle()
    assert heard.last("random")["words"].startswith("All live gates of these layers are set")


def test_a_convolution_is_traced_from_place_to_place() -> None:
    heard = Heard(gate_study(tree_net()))
    for row in range(0, 44, 3):
        heard.ask("choose", row=row)
        tree = heard.last("gate_trace", row=row)["tree"]
        assert tree["row"] == row and len(tree["reads"]) == 2
    assert heard.last("gates")["layers"] == ["conv 1.1", "conv 1.2", "conv 2.1", "layer 3"]
    assert "pass curves=, a table with the columns step" in heard.last("gate_curves")["words"]


@pytest.mark.parametrize("model", [None, tree_net()])
def test_the_session_knows_its_layers_without_a_recorded_pass(model: Any) -> None:
    with mv.gates(gate_study(model)) as view:
        view.controller.ready()
        recorded = "_own" in vars(view.session)
        assert not recorded
        assert view.session.known == view.session.replay.layers
        assert view.session.layer(view.session.known[0].name) == view.session.known[0]
        with pytest.raises(KeyError, match="there is no layer '9' with units"):
            view.session.layer("9")


def test_the_first_picture_does_not_wait_for_torchs_compiler() -> None:
    code = (
        "import sys, memviz as mv; from tests.support.gates import gate_study; "
        "view = mv.gates(gate_study()); view._repr_mimebundle_(); mv.Session(gate_study()); "
        "print('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.split() == ["False"], "the import takes seconds"


def test_a_model_that_is_more_than_its_gates_is_refused() -> None:
    study = gate_study()
    study.model[4].register_forward_hook(lambda _module, _inputs, bits: 1 - bits)
    with pytest.raises(ValueError, match="outputs are not the votes of its gates; take away what"):
        GateSession(study)


def test_the_session_is_refused_where_it_cannot_be_kept_or_made() -> None:
    session = GateSession(gate_study())
    with pytest.raises(ValueError, match="keep the lines of session.to_code"):
        session.save("there.json")
    session.toggle("2.gates:1,2" if session.circuits.circuit.live[1:3].all() else "4.gates:1,2")
    session.use("negation")
    assert set(session.settings.values()) == {"negation"} and len(session.units) == 2
    with pytest.raises(ValueError, match="in training mode"):
        study = gate_study()
        study.model.train()
        mv.gates(study)
    with pytest.raises(ValueError, match="type Conv2d does not work on bits"):
        mv.gates(hostile_study())
    with pytest.raises(TypeError, match="of type Pair; give a study of a network of logic gates"):
        mv.gates(pair_study())


def test_curves_are_drawn_from_a_plain_table_or_refused() -> None:
    soft, early = charts(check_curves(CURVES), 4)
    assert soft["gap"] == {
        "step": 50.0,
        "high": 0.7,
        "low": 0.1,
        "words": "step 50: soft .70, hard .10",
    }
    assert [line["name"] for line in soft["lines"]] == ["hard", "soft"]
    assert [line["name"] for line in early["lines"]] == [
        "test",
        "memorized given",
        "true label",
        "clean",
    ]
    assert early["note"].startswith("Memorized: the true label at most .70, at step 50;")
    with pytest.raises(TypeError, match="give a table with the columns step, reading, group"):
        check_curves({"step": [1]})
    with pytest.raises(ValueError, match="a share outside 0 to 1"):
        check_curves({**CURVES, "given": [2.0] * 12})
    with pytest.raises(ValueError, match="the reading 'warm'"):
        check_curves({**CURVES, "reading": ["warm"] * 12})


def test_the_picture_the_words_and_the_page(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>$_{"
    groups = {evil: range(10), "rest": range(10, 90)}
    with mv.gates(gate_study(groups=groups, name=evil), CURVES) as view:
        assert repr(view).endswith("starting")
        data, _ = view._repr_mimebundle_()
        assert "<img src=x" not in data["text/html"] and "Every gate is as trained" in repr(view)
        view.choose("4.gates:3")
        view.session.fix("4.gates:3", "constant 1")
        view.export(tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text()
        assert "gate_trace" in text and "<img src=x" not in text
        with pytest.raises(ValueError, match="2 gates were given; choose one"):
            view.choose("4.gates:3,4")


def test_other_views_of_a_gate_network_work_too() -> None:
    controller, ear = listening(gate_study())
    ask(controller, ear, "toggle", units="4.gates:1")
    assert ear.last("readout").content["units"] == 1
    assert torch.is_tensor(controller.session.replay.clean)
