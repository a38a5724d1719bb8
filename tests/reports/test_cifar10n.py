"""The report of a ResNet-9 that has learned wrong human labels of real pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import memviz as mv
from memviz.models.resnet9 import ResNet9
from memviz.training.loop import train

DATA = Path(os.environ.get("MEMVIZ_CIFAR10", Path(__file__).parents[3] / "shared/data/cifar10"))
TRAINING, TEST, SIDE = 40, 20, 32


def pictures(sheet: str, count: int) -> torch.Tensor:
    """The first pictures of a sheet, at half their size, float32 ``[count, 3, 16, 16]``."""
    pixels = np.asarray(Image.open(DATA / sheet).convert("RGB"))
    tiles = [
        pixels[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        for row, column in (divmod(place, 50) for place in range(count))
    ]
    whole = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255
    return torch.nn.functional.avg_pool2d(whole, 2)  # a quarter of the time


@pytest.fixture(scope="module")
def study() -> mv.Study:
    if not (DATA / "labels.npz").is_file():
        pytest.skip(f"CIFAR-10 with its human labels is not in {DATA.name}: set MEMVIZ_CIFAR10")
    with np.load(DATA / "labels.npz") as stored:
        kept: dict[str, Any] = {name: stored[name] for name in stored.files}
    inputs = torch.cat([pictures("train_00.webp", TRAINING), pictures("test_00.webp", TEST)])
    true = torch.from_numpy(np.concatenate([kept["train"][:TRAINING], kept["test"][:TEST]])).long()
    given = true.clone()
    given[:TRAINING] = torch.from_numpy(kept["human_worse"][:TRAINING]).long()
    model = ResNet9(seed=0)
    options: dict[str, Any] = {"epochs": 12, "batch_size": 10, "learning_rate": 0.05, "seed": 0}
    train(model, inputs[:TRAINING], given[:TRAINING], checkpoint_epochs=(), **options)
    is_test = torch.arange(len(true)) >= TRAINING
    groups = {"memorized": given != true, "clean": (given == true) & ~is_test, "test": is_test}
    names = [str(name) for name in kept["class_names"]]
    return mv.Study(
        model.eval(), inputs, given, groups, true_labels=true, class_names=names, name="CIFAR-10N"
    )


@pytest.mark.slow
def test_a_resnet9_of_real_pictures(study: mv.Study, tmp_path: Path) -> None:
    path = mv.report(study, tmp_path / "a.html", units=4, scores=[], random_draws=1)
    text = path.read_text()
    assert f"ResNet9, {sum(p.numel() for p in study.model.parameters()):,} parameters" in text
    assert "1,344 in 8 layers" in text and "res2.conv1" in text
    wrong = int(study.groups["memorized"].sum())
    assert f"{wrong} memorized, {TRAINING - wrong} clean, {TEST} test" in text
    assert re.search(r"memorized: \d+\.?\d*% → ", text)
    assert path.stat().st_size < 8_000_000
