"""A Session: its history, its code, its files and who is told."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import memviz as mv


def small(seed: int = 0) -> mv.Study:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    return mv.Study(model.eval(), torch.randn(6, 4), torch.arange(6) % 3, {"test": range(6)})


@pytest.fixture
def session() -> mv.Session:
    return mv.Session(small())


def all_of(session: mv.Session) -> tuple[Any, ...]:
    return (session.state, session.examples, session.opened)


def test_it_begins_with_every_layer_but_the_output(session: mv.Session) -> None:
    assert session.layers == ("0", "2")
    assert (str(session.units), session.how, session.version) == ("", "zero", 0)
    assert not session.can_undo and not session.can_redo
    assert session.layer("2").units == 6


def test_toggle_undo_redo_reset(session: mv.Session) -> None:
    session.toggle("0:1,2")
    session.toggle("0:2 2:5")
    assert str(session.units) == "0:1 2:5"
    session.use("mean")
    session.undo()
    assert (session.how, str(session.units)) == ("zero", "0:1 2:5")
    session.undo()
    assert str(session.units) == "0:1-2" or str(session.units) == "0:1,2"
    session.redo()
    assert str(session.units) == "0:1 2:5" and session.can_redo
    session.ablate("0:7", "filter")
    assert not session.can_redo and session.how == "filter"
    session.reset()
    assert (str(session.units), session.how, session.layers) == ("", "zero", ("0", "2"))
    session.undo()
    assert (str(session.units), session.how) == ("0:7", "filter")


def test_nothing_to_undo_and_nothing_changed(session: mv.Session) -> None:
    told: list[str] = []
    session.watch(told.append)
    session.undo()
    session.redo()
    session.toggle("")
    session.use("zero")
    session.reset()
    assert (told, session.version, session.can_undo) == ([], 0, False)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("toggle"), st.integers(0, 7)),
        st.tuples(st.sampled_from(["undo", "redo", "reset"]), st.none()),
        st.tuples(st.just("use"), st.sampled_from(["zero", "mean", "scale 0.5"])),
    ),
    max_size=30,
)
STUDY = small()


@settings(deadline=None)
@given(STEPS)
def test_history_is_a_list_with_a_place_in_it(steps: list[tuple[str, Any]]) -> None:
    session = mv.Session(STUDY)
    past, place = [session.state], 0
    for name, value in steps:
        if name == "toggle":
            session.toggle(mv.Unit("0", value))
        elif name == "use":
            session.use(value)
        else:
            getattr(session, name)()
        if name == "undo":
            place = max(0, place - 1)
        elif name == "redo":
            place = min(len(past) - 1, place + 1)
        elif session.state != past[place]:
            past = [*past[: place + 1], session.state]
            place += 1
        assert session.state == past[place]
        assert session.can_undo == (place > 0)
        assert session.can_redo == (place < len(past) - 1)


def test_layers_shown(session: mv.Session) -> None:
    session.show_layers(["2"])
    assert session.layers == ("2",)
    session.undo()
    assert session.layers == ("0", "2")
    with pytest.raises(KeyError, match="there is no layer '1' with units"):
        session.show_layers(["1"])
    assert session.layers == ("0", "2")


def test_names_of_layers(session: mv.Session) -> None:
    session.show_layers(iter(["2"]))
    assert session.layers == ("2",)
    session.show_layers("0")
    assert session.layers == ("0",)
    for odd in (None, 3):
        with pytest.raises(TypeError, match="names is .*; give a list of layer names"):
            session.show_layers(odd)  # type: ignore[arg-type]
    for wrong in ([0], ["x" * 10_000], [["0"]]):
        with pytest.raises(KeyError, match="there is no layer .* with units") as caught:
            session.show_layers(wrong)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 400
    for odd in ("1", 0, [0]):
        with pytest.raises(KeyError, match="there is no layer .* with units"):
            session.layer(odd)  # type: ignore[arg-type]
    for odd in ("none", ["none"], None):
        with pytest.raises(ValueError, match="there is no variant .*; choose from ''"):
            session.look_at(odd)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["9:0", "0:8", "nonsense", "0:-1"])
def test_wrong_units_change_nothing(session: mv.Session, wrong: str) -> None:
    session.toggle("0:1")
    before = (session.state, session.version)
    for change in (session.toggle, session.ablate):
        with pytest.raises((KeyError, IndexError, ValueError)):
            change(wrong)
    with pytest.raises(ValueError, match="is not an intervention"):
        session.ablate("0:2", "wrong")
    assert (session.state, session.version) == before


def test_examples(session: mv.Session) -> None:
    session.select(iter([3, 1]))
    session.open(5)
    assert (session.examples, session.opened, session.can_undo) == ((3, 1), 5, False)
    for wrong in (6, -1):
        with pytest.raises(ValueError, match=f"examples names {wrong}; this study has 6 examples"):
            session.select([0, wrong])
        with pytest.raises(
            IndexError, match=f"example {wrong} is not in this study; its examples are 0 to 5"
        ):
            session.open(wrong)
    for odd in (1.5, "1", True, [1], float("nan")):
        with pytest.raises(TypeError, match="example is .*; give its index, a whole number from 0"):
            session.open(odd)  # type: ignore[arg-type]
    assert (session.examples, session.opened) == ((3, 1), 5)
    session.open(None)
    assert session.opened is None
    session.select([])
    assert session.examples == ()


@pytest.mark.parametrize("kind", [np.array, torch.tensor, pd.Series, tuple, iter])
def test_examples_of_every_kind_can_be_saved(
    session: mv.Session, kind: Callable[[list[int]], Any], tmp_path: Path
) -> None:
    session.select(kind([4, 2]))
    session.open(np.int64(3))  # type: ignore[arg-type]
    session.save(tmp_path / "mine.json")
    session.select([])
    session.load(tmp_path / "mine.json")
    assert (session.examples, session.opened) == ((4, 2), 3)
    session.select(np.arange(6) > 3)
    assert session.examples == (4, 5)


def test_who_watches_is_told_until_they_stop(session: mv.Session) -> None:
    told: list[str] = []
    stop = session.watch(told.append)
    other: list[str] = []
    session.watch(other.append)
    session.toggle("0:1")
    session.select([1])
    session.undo()
    assert told == other == ["state", "examples", "state"]
    stop()
    stop()
    session.redo()
    assert len(told) == 3 and other[-1] == "state" and len(other) == 4


def test_a_watcher_may_stop_while_it_is_told(session: mv.Session) -> None:
    told: list[str] = []

    def once(what: str) -> None:
        told.append(what)
        stop()

    stop = session.watch(once)
    after: list[str] = []
    session.watch(after.append)
    session.toggle("0:1")
    session.toggle("0:1")
    assert (told, after) == (["state"], ["state", "state"])


def test_a_model_without_layers() -> None:
    model = nn.Flatten().eval()
    study = mv.Study(model, torch.randn(4, 3), torch.zeros(4), {"test": range(4)})
    with pytest.raises(ValueError, match="no layer of this model has units to ablate"):
        mv.Session(study)


def run(code: str, **known: Any) -> mv.Session:
    found: dict[str, Any] = dict(known)
    exec(code, found)
    assert isinstance(found["session"], mv.Session)
    return found["session"]


def test_the_code_rebuilds_the_state(digits: mv.Study, capsys: pytest.CaptureFixture[str]) -> None:
    session = mv.Session(digits)
    session.show_layers(["fc", "conv2"])
    session.ablate("conv2:0-7 fc:1,50", "scale 0.5")
    session.select([3, 1700])
    session.open(12)
    code = session.to_code()
    assert 'study = mv.demo("digits", seed=0)\n' in code
    again = run(code)
    assert all_of(again) == all_of(session)
    printed = capsys.readouterr().out
    assert printed.startswith("10 of 320 units ablated: memorized margin 3.72 → ")
    assert again.study is not digits
    assert all_of(run(mv.Session(digits).to_code())) == all_of(mv.Session(digits))


@pytest.mark.parametrize("how", ["zero", "mean", "filter", "resample 3", "constant 0.25"])
def test_the_code_for_a_study_of_ones_own(session: mv.Session, how: str) -> None:
    session.study.origin = "mine"
    session.ablate("0:1", how)
    assert all_of(run(session.to_code(), mine=session.study)) == all_of(session)
    session.study.origin = ""
    assert "study = ...  # your Study" in session.to_code()


def test_the_code_imports_where_a_deep_study_comes_from(session: mv.Session) -> None:
    session.study.origin = "memviz.demos.encoders.load(0, 'own').study('target')"
    first, second, *_ = session.to_code().splitlines()
    assert (first, second) == ("import memviz.demos.encoders", "import memviz as mv")
    session.study.origin = 'mv.demo("digits", seed=0)'
    assert session.to_code().startswith("import memviz as mv")


def test_an_odd_layer_name_stays_a_text() -> None:
    name = 'it\'s \\ "odd"'
    model = nn.Sequential()
    model.add_module(name.replace(" ", "_"), nn.Linear(4, 3))
    model.add_module("head", nn.Linear(3, 2))
    study = mv.Study(
        model.eval(), torch.randn(4, 4), torch.zeros(4), {"test": range(4)}, origin="mine"
    )
    session = mv.Session(study)
    session.toggle(session.known[0].all())
    session.select([2])
    assert all_of(run(session.to_code(), mine=study)) == all_of(session)


def test_save_and_load(session: mv.Session, tmp_path: Path) -> None:
    session.show_layers(["2"])
    session.ablate("0:1,5 2:0", mv.Constant(0.1))
    session.select([4, 2])
    session.open(2)
    session.save(tmp_path / "mine.json")
    other = mv.Session(session.study)
    other.load(str(tmp_path / "mine.json"))
    assert all_of(other) == all_of(session)
    other.undo()
    assert str(other.units) == ""
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]  # no part file is left


@settings(deadline=None, max_examples=30)
@given(name=st.text(min_size=1, max_size=12).filter(lambda name: "." not in name))
def test_sessions_of_any_layer_name_are_saved(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = nn.Sequential()
    try:
        model.add_module(name, nn.Linear(4, 3))
    except KeyError:  # a name that torch does not take, such as "training"
        return
    model.add_module(f"{name}_", nn.Linear(3, 2))
    study = mv.Study(model.eval(), torch.randn(4, 4), torch.zeros(4), {"t": range(4)}, origin="my")
    session = mv.Session(study)
    session.toggle({name: [0, 2]})
    path = tmp_path_factory.mktemp("session") / "mine.json"
    session.save(path)
    other = mv.Session(study)
    other.load(path)
    assert all_of(other) == all_of(session) == all_of(run(session.to_code(), my=study))


def test_a_saved_session_is_read_whole_or_not_at_all(session: mv.Session, tmp_path: Path) -> None:
    session.ablate("0:1,5 2:0", mv.Constant(0.1))
    session.select([4, 2])
    session.open(2)
    file = tmp_path / "mine.json"
    session.save(file)
    content, expected = file.read_bytes(), all_of(session)
    words = "is not a saved session|was altered|has format"
    for bit in range(0, 8 * len(content), 11):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        refused = ""
        try:
            session.load(file)
        except ValueError as error:
            refused = str(error)
        assert re.search(words, refused) or not refused
        assert all_of(session) == expected
    for length in range(0, len(content), 5):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=words):
            session.load(file)


def test_what_is_no_file(session: mv.Session, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 32)
    for path, words in {
        tmp_path / "pipe": "is a pipe, not a file",
        tmp_path: "is a folder, not a file",
        Path("/dev/zero"): "is a device, not a file",
        tmp_path / "huge.json": "has 4,294,967,296 bytes, and such a file has",
    }.items():
        with pytest.raises(ValueError, match=words):
            session.load(path)
        if path.name != "huge.json":
            with pytest.raises(ValueError, match=words):
                session.save(path)
    with pytest.raises(FileNotFoundError, match="there is no folder .* make it first"):
        session.save(tmp_path / "none" / "mine.json")


def test_other_weights_are_refused(session: mv.Session, tmp_path: Path) -> None:
    session.toggle("0:1")
    session.save(tmp_path / "mine.json")
    other = mv.Session(small(seed=1))
    with pytest.raises(ValueError, match="saved with weights other than those of this study"):
        other.load(tmp_path / "mine.json")
    assert str(other.units) == ""
    with torch.no_grad():
        session.study.model[0].weight[0, 0] += 1e-3
    with pytest.raises(ValueError, match="saved with weights other than"):
        session.load(tmp_path / "mine.json")


BROKEN = {
    "no JSON": "units: 1",
    "half": '{"format": 1, "weights": "',
    "a list": "[1, 2]",
    "a number": "5",
    "keys missing": '{"format": 1}',
    "empty": "",
    "deep": "[" * 100_000,
    "deeper": '{"format": ' * 100_000,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file(session: mv.Session, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(BROKEN[kind])
    session.toggle("0:1")
    before = all_of(session)
    with pytest.raises(ValueError, match=r"broken.json' is not a saved session; write one with"):
        session.load(file)
    assert all_of(session) == before


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 99, "has format 99, and this version of memviz reads format 1"),
        ("units", "9:0", "there is no layer '9'"),
        ("units", 7, "is not a saved session"),
        ("layers", None, "is not a saved session"),
        ("how", "explode", "'explode' is not an intervention"),
        ("examples", [0, 100], "example 100 is not in this study"),
        ("examples", "x", "is not a saved session"),
        ("opened", -4, "example -4 is not in this study"),
        ("opened", 1.5, "is not a saved session"),
        ("opened", True, "is not a saved session"),
        ("examples", [1.5], "is not a saved session"),
        ("examples", "12", "is not a saved session"),
        ("format", True, "has format True"),
        ("variant", 3, "is not a saved session"),
        ("variant", "epoch 3", "shows the variant 'epoch 3', which this study does not have"),
        ("extra", 1, "is not a saved session"),
        ("weights", "x" * 10_000, "was saved with weights other than"),
        ("how", "x" * 10_000, "x…' is not an intervention"),
    ],
)
def test_a_file_with_wrong_values_changes_nothing(
    session: mv.Session, tmp_path: Path, key: str, value: Any, words: str
) -> None:
    file = tmp_path / "mine.json"
    session.toggle("2:3")
    session.save(file)
    content = json.loads(file.read_text())
    del content["sha256"]  # as version 0.1.0 wrote it
    file.write_text(json.dumps(content | {key: value}))
    session.toggle("0:1")
    before = (all_of(session), session.version)
    with pytest.raises((ValueError, KeyError, IndexError), match=words) as caught:
        session.load(file)
    assert (all_of(session), session.version) == before and len(str(caught.value)) < 500


def test_a_missing_file(session: mv.Session, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        session.load(tmp_path / "none.json")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16])
def test_weights_of_every_type_can_be_saved(dtype: torch.dtype, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).to(dtype).eval()
    inputs = torch.randn(4, 4).to(dtype)
    session = mv.Session(mv.Study(model, inputs, torch.zeros(4), {"test": range(4)}))
    session.toggle("0:1")
    session.save(tmp_path / "mine.json")
    session.undo()
    session.load(tmp_path / "mine.json")
    assert str(session.units) == "0:1"


def test_undo_goes_back_500_steps_and_no_more(session: mv.Session) -> None:
    for step in range(510):
        session.toggle(f"0:{step % 8}")
    assert session.forgotten == 10
    after_ten = mv.UnitSet.parse("0:2-7")  # 0 and 1 were toggled twice
    steps = 0
    while session.can_undo:
        session.undo()
        steps += 1
    assert steps == 500 and session.units == after_ten
    for _ in range(500):
        session.redo()
    assert not session.can_redo and session.version == 1510


def grouped(study: mv.Study) -> mv.Session:
    n = len(study)
    groups = {"memorized": range(2), "clean": range(2, n - 1), "test": [n - 1]}
    return mv.Session(replace(study, groups=groups))


def test_marks_are_saved_undone_and_make_groups(session: mv.Session, tmp_path: Path) -> None:
    session = grouped(session.study)
    memorized, clean = (session.study.group(name).tolist() for name in ("memorized", "clean"))
    session.mark(clean[:2], "confirmed")
    session.mark([memorized[0]], "rejected")
    session.mark([clean[1]], "rejected")
    wanted = {clean[0]: "confirmed", clean[1]: "rejected", memorized[0]: "rejected"}
    assert session.marks == dict(sorted(wanted.items()))
    code = session.to_code()
    assert f"session.mark([{clean[0]}], 'confirmed')" in code
    reviewed = session.reviewed()
    assert set(reviewed.group("memorized").tolist()) == {*memorized[1:], clean[0]}
    assert set(reviewed.group("clean").tolist()) == {*clean[1:], memorized[0]}
    assert reviewed.group("test").tolist() == session.study.group("test").tolist()
    assert "1 confirmed and 2 rejected by eye" in repr(reviewed)
    session.save(tmp_path / "marked.json")
    session.reset()
    assert session.marks == dict(sorted(wanted.items()))
    other = mv.Session(session.study)
    other.load(tmp_path / "marked.json")
    assert other.marks == session.marks
    other.undo()
    assert other.marks == {}
    session.mark(list(wanted), "")
    assert session.marks == {}


def test_wrong_marks_are_refused(session: mv.Session) -> None:
    session = grouped(session.study)
    with pytest.raises(ValueError, match="as_what is 'yes'; choose from 'confirmed', 'rejected'"):
        session.mark([0], "yes")
    with pytest.raises(ValueError, match=r"this study has .* examples"):
        session.mark([10**6], "confirmed")
    study = session.study
    with pytest.raises(ValueError, match="example 0 is confirmed and rejected; choose one"):
        study.reviewed([0], [0])
    with pytest.raises(ValueError, match="all of 'memorized' are rejected; nothing is left"):
        study.reviewed([], study.group("memorized"))
    assert session.marks == {}
