"""What a study may be given, as users write it: run here, and read by mypy (see pyproject.toml)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import memviz as mv


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


class Rows:
    """A dataset of no library."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((4,), float(index)), index % 3

    def __getitems__(self, keys: list[int]) -> list[tuple[Tensor, int]]:
        return [self[key] for key in keys]


def test_groups_and_labels_may_be_whatever_lists_them() -> None:
    model, inputs = network(), torch.randn(6, 4)
    studies = [
        mv.Study(model, inputs, [0, 1, 2, 0, 1, 2], {"test": range(6)}),
        mv.Study(model, inputs, pd.Series([0] * 6), {"test": [True] * 6}, np.zeros(6)),
        mv.Study(
            model, {"input": inputs}, np.zeros(6), {"a": np.arange(2), "b": torch.tensor([3])}
        ),
    ]
    counts = [int(mask.sum()) for study in studies for mask in study.groups.values()]
    assert counts == [6, 6, 2, 1]
    assert len(mv.sweep(studies[0], "0:0-1", [1, 2], progress=False).units) == 2


def test_inputs_may_be_a_dataset() -> None:
    model, inputs = network(), torch.randn(6, 4)
    pairs: Dataset[tuple[Tensor, ...]] = TensorDataset(inputs, torch.arange(6) % 3)
    for dataset in (pairs, mv.study.FromDataset(pairs), Rows()):
        assert len(mv.Study(model, dataset, torch.arange(6) % 3, {"test": range(6)})) == 6
