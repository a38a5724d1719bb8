"""The UnitMem benchmark answers what it promises; how fast is never tested."""

import pytest
import torch

from benchmarks import unit_mem


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


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        unit_mem.main(["--help"])
    assert "python -m benchmarks unit_mem" in capsys.readouterr().out
