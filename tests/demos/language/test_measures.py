"""What the demo's figures say: shipped tables, forecasts, and the ablation that is not told."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.demos import language
from memviz.demos.language import _measures as measures
from memviz.demos.language.__main__ import main
from memviz.probes.extraction import extract


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return language.figures()


def test_recitation_rises_with_copies_and_size_and_held_out_passages_are_not_recited(
    found: dict[str, Any],
) -> None:
    by_model = {name: list(shares.values()) for name, shares in found["recited_by_model"].items()}
    for name, shares in by_model.items():
        assert (np.diff(shares) >= 0).all(), name
    assert sum(by_model["small"]) < sum(by_model["medium"]) < sum(by_model["large"])
    assert found["recited"]["64"] == 1.0 and found["recited"]["1"] < 0.1
    assert found["held_out"] < 0.01 and max(found["held_out_by_model"].values()) < 0.01
    assert found["spike"] > 0.5 and found["spike_by_chance"] < 0.05


def test_cheap_forecasts_are_precise_and_blind(found: dict[str, Any]) -> None:
    precision, recall = found["precision"], found["recall"]
    assert precision["small"] >= 0.9
    assert recall["small"] < recall["medium"] < 1
    assert recall["large, epoch 3"] < recall["large, epoch 6"] < recall["large, epoch 9"]


def test_ablation_breaks_passages_that_had_no_part_in_the_choice(found: dict[str, Any]) -> None:
    ablation = found["ablation"]
    assert ablation["recited_before"] == 1.0
    assert ablation["recited_before"] - ablation["recited_after"] > 0.5
    assert ablation["recited_random"] - ablation["recited_after"] > 0.3
    assert ablation["perplexity_ratio"] < 1.1
    assert ablation["perplexity_ratio"] < ablation["perplexity_ratio_random"]


def test_the_table_of_seed_0_is_what_the_shipped_weights_say() -> None:
    table, tokens = language.tables(0), language.passages(0).tokens
    assert torch.equal(table.copies, language.passages(0).copies)
    assert torch.equal(table.paragraphs, language.passages(0).paragraphs)
    for name, model in language.ladder(0).items():
        said = extract(model, tokens, 16, 32, progress=False)
        assert (said.memorized == table.recited[name]).mean() > 0.98, name


def test_halves_share_no_passage_and_hold_the_same_levels() -> None:
    study, copies = mv.demo("language"), language.passages(0).copies
    choose, report = language.halves(study, copies)
    both = torch.cat([choose, report])
    assert torch.equal(both.sort().values, study.group("recited"))
    for level in language.COPIES:
        counts = [int((copies[half] == level).sum()) for half in (choose, report)]
        assert abs(counts[0] - counts[1]) <= 1


def test_the_reading_is_that_of_a_plain_hook() -> None:
    study = mv.demo("language")
    reported = study.group("recited")[:5]
    share, loss = measures._reading(study, mv.UnitSet("blocks.1.up:0-99"), reported)

    def off(module, inputs, output):  # type: ignore[no-untyped-def]
        return output.index_fill(-1, torch.arange(100), 0.0)

    handle = study.model.blocks[1].up.register_forward_hook(off)
    held_out = study.group("held out")
    with torch.no_grad():
        logits = [study.model(study.inputs["input_ids"][rows]) for rows in (reported, held_out)]
    handle.remove()
    chosen = logits[0][:, 15:47].argmax(-1) == study.labels[reported]
    assert share == float(chosen.all(1).double().mean())
    logs = logits[1][:, 15:47].log_softmax(-1).gather(-1, study.labels[held_out][..., None])
    assert loss == pytest.approx(-float(logs.mean()), rel=1e-4)


def test_the_command_prints_one_json_object(
    found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(found))
    asked = ("recited", "held_out", "precision", "recall", "ablation")
    assert all(name in printed for name in asked) and printed["seeds"] == 3
    main([])
    assert "64 neurons ablated" in capsys.readouterr().out


def test_what_is_undefined_in_every_seed_is_none() -> None:
    assert measures._mean([math.nan, math.nan]) is None
    assert measures._mean([math.nan, 0.5, 1.0]) == 0.75
