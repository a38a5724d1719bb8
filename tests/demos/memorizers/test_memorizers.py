"""The memorizers demo: planted units hold what they are said to hold; the record is complete."""

from __future__ import annotations

import json

import pytest

import memviz as mv
from memviz.demos.memorizers import TRUTHS, yun_2500
from memviz.demos.memorizers import __main__ as command
from memviz.demos.memorizers.__main__ import main
from memviz.models.memorizers import construct_memorizer
from memviz.probes.capacity import compare_memorizers, planted_clusters
from memviz.probes.contest import LOCALIZERS, contest


@pytest.mark.parametrize("seed", range(3))
def test_the_slabs_hold_the_memorized_images_and_no_others(seed: int) -> None:
    truth = TRUTHS["constructed, slabs"](seed)
    table = mv.readout(truth.study, truth.planted, random_draws=0).frame
    assert table.before["memorized"] == table.before["clean"] == table.after["clean"] == 1
    assert abs(table.margin_after["memorized"]) < 1e-6
    assert table.margin_after["clean"] == pytest.approx(table.margin_before["clean"], abs=1e-6)
    found = contest([truth], {"exact": LOCALIZERS["exact ablation"]}, progress=False)
    assert next(e.recall for e in found.entries if e.localizer == "planted units") == 1


def test_it_is_a_demo_that_needs_no_training() -> None:
    assert mv.demo("memorizers", seed=7).name == "memorizers"


def test_2500_points_are_in_100_units() -> None:
    wide = yun_2500()
    assert wide.units == 100 and wide.error() < 1e-6


def test_the_record_is_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same of clusters, since 36,000 units of a pair of digits take their time.
    x, signs = planted_clusters(60)
    labels = (signs > 0).long()
    memorizer = construct_memorizer(x, signs, method="yu")
    few = compare_memorizers(x, labels, x, labels, methods=["yu", "trained"])
    monkeypatch.setattr(command, "pair", lambda seed: (memorizer, few))
    monkeypatch.setattr(command, "compare", lambda seed: few)
    main(["--json", "--seeds", "0"])
    record = json.loads(capsys.readouterr().out)
    assert record["certificates_broken"] == 0 < record["certificates_checked"]
    assert record["train"]["yu"] == 1 and record["test"]["yu"] > 0.9
    assert record["yun_units_2500"] == 100 and record["yun_error_2500"] < 1e-6
