"""The UnitMem benchmark answers what it promises; how fast is never tested."""

import json
import subprocess
from typing import Any

import pytest
import torch

from benchmarks import page, unit_mem


def test_both_ways_agree_on_every_unit() -> None:
    study = unit_mem.subject(3, 32)
    ours, theirs = unit_mem.ours(study), unit_mem.hooked(study)
    assert len(ours) == len(theirs) == 4800
    assert ours.isfinite().float().mean() > 0.9
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3, equal_nan=True)


def test_a_tiny_run_says_all_it_promises() -> None:
    found = unit_mem.inside("ours", 5, 32)
    assert found["units"] == 4800 and found["max_error"] < 1e-3
    assert {"cpu_s", "wall_s", "before_mb", "grown_mb"} < set(found)


def test_a_row_for_each_way_and_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(asked: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        way, images = asked[asked.index("--inside") + 1], int(asked[asked.index("--examples") + 1])
        ours = way == "ours"
        facts = {"cpu_s": images / (10 if ours else 8), "grown_mb": 3 if ours else images}
        return subprocess.CompletedProcess(asked, 0, json.dumps({**facts, "units": 4800}))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(unit_mem, "about", lambda: {"date": "today"})
    found = unit_mem.measure((250, 1000))
    assert found["ours, 250 images"] == {
        **{"cpu_s": 25.0, "grown_mb": 3, "units": 4800},
        "ratio_hooks": 1.25,
    }
    assert found["hooks, 1,000 images"] == {"cpu_s": 125.0, "grown_mb": 1000, "units": 4800}
    assert found["grown_between_mb"] == 0
    text = page.page({"unit_mem": {key: value for key, value in found.items() if key != "about"}})
    assert (
        text.count("## UnitMem") == 1 and "| ours, 1,000 images | 100 | 3 | 4,800 | 1.25 |" in text
    )
    assert "| hooks, 250 images | 31.2 | 250 | 4,800 |  |" in text


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        unit_mem.main(["--help"])
    assert "python -m benchmarks unit_mem" in capsys.readouterr().out
