"""What the page knows of single units: a readout's figures, for every unit of three studies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.statistics import wilson
from memviz.widgets.workbench import Controller, _scores, _singles
from memviz.widgets.workbench._singles import Singles
from tests.support.widgets import Ear, decoded, flat_study, listening, pair_study, small_study

STUDIES = {"strokes": small_study, "rows": flat_study, "pairs": pair_study}


def swept(study: mv.Study) -> tuple[Controller, Ear]:
    controller, ear = listening(study)
    controller.worker.run_until_idle()
    return controller, ear


@pytest.fixture(scope="module", params=STUDIES)
def bench(request: pytest.FixtureRequest) -> tuple[Controller, Ear]:
    return swept(STUDIES[request.param]())


def test_every_unit_has_the_figures_of_a_readout(bench: tuple[Controller, Ear]) -> None:
    controller, ear = bench
    study, units = controller.session.study, controller.scores.units
    table, arrays = ear.last("singles").content, decoded(ear.last("singles"))
    assert arrays["known"].all() and table["key"] == "zero" and table["of"] == len(units)
    for row, unit in enumerate(units):
        found = mv.readout(study, mv.UnitSet([unit]), random_draws=0)
        assert [group["name"] for group in table["groups"]] == list(found.groups)
        for column, (group, before) in enumerate(
            zip(found.groups.values(), table["groups"], strict=True)
        ):
            after = group.after
            assert arrays["right"][row, column] == after.correct
            assert wilson(int(arrays["right"][row, column]), before["n"]) == (after.low, after.high)
            assert arrays["lost"][row, column] == group.right_to_wrong
            assert arrays["gained"][row, column] == group.wrong_to_right
            mean, half = arrays["mean"][row, column], arrays["half"][row, column]
            wanted = (after.margin, after.margin_low, after.margin_high)
            assert (mean, mean - half, mean + half) == pytest.approx(wanted, abs=2e-5)
            assert before["before"] == pytest.approx(
                {name: value for name, value in vars(group.before).items() if name != "n"}, abs=1e-6
            )


def test_every_unit_has_the_predictions_of_a_readout(bench: tuple[Controller, Ear]) -> None:
    controller, ear = bench
    study, units = controller.session.study, controller.scores.units
    table, arrays = ear.last("margins").content, decoded(ear.last("margins"))
    assert arrays["told"].all()
    assert (arrays["before"] == mv.readout(study, "").before.numpy()).all()
    for row, unit in enumerate(units):
        found = mv.readout(study, mv.UnitSet([unit]), random_draws=0)
        mine = arrays["row"] == row
        said = arrays["before"].copy()
        said[arrays["example"][mine]] = arrays["said"][mine]
        assert (said == found.after.numpy()).all()
        change = arrays["change"][row] * arrays["step"][row]
        assert np.abs(change - found.margin_change.numpy()).max() <= table["error"] + 2e-5


def test_the_table_is_sent_as_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scores, "TELL_EVERY", 0)
    _, ear = swept(small_study())
    known = [int(decoded(m)["known"].sum()) for m in ear.heard if m.content["type"] == "singles"]
    assert known == sorted(known) and known[0] < known[-1] == 20
    assert len(ear.of("margins")) == 1


def test_an_unsure_side_is_left_to_the_kernel() -> None:
    study = small_study()
    effects = mv.sweep(study, progress=False)
    controller, _ = listening(study)
    effects.margin_change[3, 7] = -effects.margin[7]  # on the boundary
    effects.margin_change[5, 0] = torch.nan
    effects.done[9] = False
    table = Singles(effects, controller.labels, controller.session.replay.clean)
    table.update()
    assert np.flatnonzero(~table.known).tolist() == [3, 5, 9]


def test_new_weights_withdraw_the_table(bench: tuple[Controller, Ear]) -> None:
    controller, ear = swept(small_study())
    with torch.no_grad():
        controller.session.study.model.get_submodule("fc").weight.mul_(0.3)
    controller.receive({"type": "set", "units": "fc:1"}, ear)
    controller.worker.run_until_idle()
    last = ear.last("singles")
    assert last.content["groups"] == [] and not decoded(last)["known"].any()
    ear.forget()
    controller.receive({"type": "set", "units": "fc:2"}, ear)
    controller.worker.run_until_idle()
    assert not ear.of("singles")


def test_each_intervention_has_its_own(bench: tuple[Controller, Ear]) -> None:
    controller, ear = swept(small_study())
    controller.session.use("mean")
    controller.worker.run_until_idle()
    table = ear.last("singles")
    assert table.content["key"] == "mean" and decoded(table)["known"].all()
    assert table.content["intervention_words"] == "unit ablation: activations set to their mean"
    found = mv.readout(controller.session.study, "fc:1", "mean", random_draws=0)
    row = [str(unit) for unit in controller.scores.units].index("fc:1")
    margins = [group.after.margin for group in found.groups.values()]
    assert decoded(table)["mean"][row] == pytest.approx(margins, abs=2e-5)


@pytest.mark.parametrize(("each", "kind"), [(2, "int16"), (1, "int8"), (0.9, None)])
def test_what_is_too_large_is_coarser_or_left_out(
    bench: tuple[Controller, Ear], monkeypatch: pytest.MonkeyPatch, each: float, kind: str | None
) -> None:
    controller, ear = bench
    whole = decoded(ear.last("margins"))
    changed = 10 * len(whole["row"])
    monkeypatch.setattr(_singles, "_BYTES", each * whole["change"].size + changed)
    message = controller._singles.of("zero", controller.effects["zero"]).margins_message("zero")
    assert (message is None) == (kind is None)
    if message is not None:
        found = decoded(message)
        assert found["change"].dtype == kind and (found["said"] == whole["said"]).all()
        off = (
            found["change"] * found["step"][:, None]
            - controller.effects["zero"].margin_change.numpy()
        )
        assert np.abs(off).max() <= message.content["error"] + 1e-6
