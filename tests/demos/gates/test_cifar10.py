"""The CIFAR-10 run: stops with its minutes, goes on where it was, and counts its gates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from memviz.demos.gates import cifar10
from memviz.models.logic_gates import logic_tree_net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of noise in the binary layout, six in a batch."""
    draw = np.random.default_rng(0)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        pixels = draw.integers(0, 256, (6, 3072), dtype=np.uint8)
        labels = np.arange(6, dtype=np.uint8)[:, None]
        np.concatenate([labels, pixels], 1).tofile(tmp_path / name)
    return tmp_path


def test_it_stops_with_its_minutes_and_goes_on(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = iter(range(1, 10_000))
    monkeypatch.setattr(cifar10.time, "process_time", lambda: 60.0 * next(clock))
    out = tmp_path / "out"
    cifar10.main([str(folder), "--out", str(out), "--size", "8", "--minutes", "2"])
    first = json.loads((out / cifar10.LOG).read_text())
    assert list(first) == ["1", "2"] and [row[0] for row in first.values()] == [1.0, 2.0]
    assert "after 2 epochs and 2 CPU minutes" in capsys.readouterr().out
    clock = iter(range(1, 10_000))
    cifar10.main([str(folder), "--out", str(out), "--size", "8", "--minutes", "3"])
    second = json.loads((out / cifar10.LOG).read_text())
    assert list(second) == ["1", "2", "3"]
    assert second["1"] == first["1"]


def test_gates_are_counted_once_and_at_every_place() -> None:
    own, placed = cifar10.gate_counts(logic_tree_net(8), torch.zeros(1, 3, 32, 32))
    kernels, sides = (8, 32, 128, 256), (32, 16, 8, 4)
    dense = 8 * (1280 + 640 + 320)
    assert own == 7 * sum(kernels) + dense
    assert placed == 7 * sum(k * s * s for k, s in zip(kernels, sides, strict=True)) + dense


def test_a_folder_without_cifar10_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no CIFAR-10"):
        cifar10.report(tmp_path, tmp_path)
