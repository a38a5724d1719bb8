"""What a saved déjà vu page takes along: its pairs, and what single units do to each of them."""

from __future__ import annotations

import numpy as np
import pytest

import memviz as mv
from memviz.probes.deja_vu.ablation import MEASURES, Retrieval, measured
from memviz.widgets.deja_vu import DejaVuController, DejaVuView
from memviz.widgets.deja_vu import _album as album
from memviz.widgets.deja_vu import _alone as alone
from memviz.widgets.deja_vu import _messages as told
from tests.support.retrievals import small_retrieval
from tests.support.widgets import Ear, decoded

FC = "transformer.resblocks.1.mlp.c_fc"
FEW = 12


@pytest.fixture(scope="module")
def retrieval() -> Retrieval:
    return small_retrieval()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "MOST_UNITS", FEW)


def heard(retrieval: Retrieval) -> tuple[DejaVuController, Ear]:
    controller, ear = (
        DejaVuController(retrieval, mv.Session(retrieval.study), threaded=False),
        Ear(),
    )
    controller.sinks.append(ear)
    controller.hello(ear)
    work(controller)
    return controller, ear


def work(controller: DejaVuController) -> None:
    """Everything but the long sweep."""
    for _ in range(60):
        controller.worker._step()
        controller.worker.drop("sweep")


def of(controller: DejaVuController, kind: str) -> told.Message:
    return next(m for m in controller.snapshot() if m.content["type"] == kind)


def test_every_pair_is_as_it_would_be_told(
    retrieval: Retrieval, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, ear = heard(retrieval)
    controller.receive({"type": "set", "units": f"{FC}:0-9"}, ear)
    work(controller)
    whole = of(controller, "album").content
    assert whole["pictured"] == 40
    for entry in whole["pairs"]:
        controller.receive({"type": "open", "example": entry["row"]}, ear)
        work(controller)
        assert {**ear.last("pair").content, "version": -1} == entry
    assert whole["sentence"].startswith("10 of") and "this pair" not in whole["sentence"]
    # Pictures that do not fit are left out, those of the widest gaps last.
    monkeypatch.setattr(album, "_MOST_BYTES", 0)
    assert of(controller, "album").content["pictured"] == 0
    monkeypatch.setattr(album, "_MOST_TEXT", 5_000)
    rows = [entry["row"] for entry in of(controller, "album").content["pairs"]]
    *first, opened = rows
    assert 0 < len(first) < 10 and opened == controller.pair  # that one is always there
    assert first == [entry["row"] for entry in whole["pairs"][: len(first)]]


def test_every_unit_has_the_figures_of_a_fresh_retrieval(retrieval: Retrieval) -> None:
    controller, _ = heard(retrieval)
    message, entries = of(controller, "alone"), of(controller, "album").content["pairs"]
    content, arrays = message.content, decoded(message)
    rows, units = [entry["row"] for entry in entries], controller.scores.units
    assert len(arrays["unit"]) == FEW and content["rule"].startswith(f"{FEW} of 1,360 units")
    n = len(retrieval.training)
    before = retrieval.clean.found.target.neighbours.ids
    for place, unit in enumerate([None, *arrays["unit"].tolist()]):
        off = "" if unit is None else str(units[unit])
        fresh = retrieval.retrieve(off)
        np.testing.assert_array_equal(arrays["figures"][place], measured(fresh))
        target = fresh.found.target
        np.testing.assert_array_equal(arrays["curve"][place], told.survival(target))
        for name in ("precision", "recall"):
            values = arrays["levels"][arrays[name][place]]
            np.testing.assert_array_equal(values, getattr(target, name)[rows])
        ids = target.neighbours.ids[rows]
        np.testing.assert_array_equal(arrays["picture"][arrays["near"][place]], n + ids[:, :5])
        gone = (before[rows][:, :5, None] != ids[:, None, :]).all(2).numpy()
        bits = np.unpackbits(arrays["lost"][place][:, None], axis=1, bitorder="little")
        np.testing.assert_array_equal(bits[:, :5].astype(bool), gone)
    np.testing.assert_array_equal(arrays["picture"][arrays["before"]], n + before[rows])
    for objects, number in zip(content["objects"], arrays["picture"].tolist(), strict=True):
        assert objects == told.shown_objects(retrieval.public.objects[number - n])
    assert len(arrays["figures"][0]) == len(MEASURES)


def test_the_units_with_the_largest_effects_are_taken(retrieval: Retrieval) -> None:
    controller, _ = heard(retrieval)
    values = np.full(len(controller.scores.units), np.nan)
    values[[7, 400, 90]] = 0.1, 0.3, 0.2
    controller.scores.aucg = {"zero": values}
    message = of(controller, "alone")
    unit = decoded(message)["unit"].tolist()
    assert unit[:3] == [400, 90, 7] and len(set(unit)) == FEW
    assert "then those with the largest estimates" in message.content["rule"]
    controller.scores.aucg = {"zero": np.linspace(1, 0, len(values))}
    message = of(controller, "alone")
    assert decoded(message)["unit"].tolist() == list(range(FEW))
    assert "with the largest effects on AUCG" in message.content["rule"]


def test_fewer_units_where_pairs_are_many(
    retrieval: Retrieval, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, _ = heard(retrieval)
    monkeypatch.setattr(alone, "_MOST_BYTES", 3 * 13 * 40)
    assert len(decoded(of(controller, "alone"))["unit"]) == 3


def test_another_intervention_has_units_of_its_own(retrieval: Retrieval) -> None:
    controller, ear = heard(retrieval)
    controller.receive({"type": "intervention", "key": "mean"}, ear)
    work(controller)
    arrays = decoded(of(controller, "alone"))
    unit = controller.scores.units[arrays["unit"][0]]
    fresh = retrieval.retrieve(str(unit), "mean")
    np.testing.assert_array_equal(arrays["figures"][1], measured(fresh))


def test_the_export_button_goes_unit_by_unit_and_can_be_cancelled(
    retrieval: Retrieval, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memviz.widgets.core._controller.TELL_EVERY", 0.0)
    controller, ear = heard(retrieval)
    controller.receive({"type": "export"}, ear)
    for _ in range(3):
        controller.worker._step()
    progress = ear.last("progress", job="export").content
    assert progress["total"] == FEW and 0 < progress["done"] <= 3
    controller.receive({"type": "cancel"}, ear)
    work(controller)
    assert list(tmp_path.iterdir()) == []
    controller.receive({"type": "export"}, ear)
    work(controller)
    assert [path.suffix for path in tmp_path.iterdir()] == [".html"]
    assert ear.last("exported").content["text"].startswith("Saved as memviz-")


def test_two_views_that_export_at_once_are_both_answered(
    retrieval: Retrieval, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    controller, ear = heard(retrieval)
    other = Ear()
    controller.sinks.append(other)
    controller.receive({"type": "export"}, ear)
    controller.worker._step()
    for _ in range(2):  # who is impatient gets one page
        controller.receive({"type": "export"}, other)
    work(controller)
    names = [sink.last("exported").content["text"] for sink in (ear, other)]
    assert len(list(tmp_path.iterdir())) == 2 and names[0] != names[1]
    controller.receive({"type": "export"}, other)
    controller.sinks.remove(other)
    work(controller)
    assert len(list(tmp_path.iterdir())) == 2  # nobody waits for the third


def test_an_interrupted_export_writes_nothing_and_goes_on_from_there(
    retrieval: Retrieval, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, made = mv.deja_vu(retrieval), []
    assert isinstance(view, DejaVuView)
    weights = {name: value.clone() for name, value in retrieval.target.model.state_dict().items()}
    retrieve = Retrieval.retrieve

    def fails(self: Retrieval, *args: object, **options: object) -> object:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(args)
        return retrieve(self, *args, **options)  # type: ignore[arg-type]

    with view:
        view.controller.ready()
        monkeypatch.setattr(Retrieval, "retrieve", fails)
        with pytest.raises(KeyboardInterrupt):
            view.export(tmp_path / "a.html", progress=False)
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(Retrieval, "retrieve", retrieve)
        view.export(tmp_path / "a.html", progress=False)
    assert (tmp_path / "a.html").stat().st_size > 100_000
    after = retrieval.target.model.state_dict()
    assert all((value == after[name]).all() for name, value in weights.items())


def test_a_place_that_cannot_be_is_refused_before_anything_is_computed(
    retrieval: Retrieval, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = mv.deja_vu(retrieval)
    monkeypatch.setattr(view.controller, "find_alone", lambda **_: pytest.fail("computed"))
    with pytest.raises(FileNotFoundError):
        view.export("no such/folder/page.html")
