"""What reads labels as classes refuses other labels in one sentence; what does not, takes them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models import MLP
from memviz.probes.encoders import ProbeAccuracy
from memviz.probes.encoders.experiments import fine_tune_layers, layer_fine_tuning
from memviz.probes.encoders.localizers import class_memorization
from memviz.probes.encoders.units import class_mem, class_selectivity
from memviz.probes.examples import (
    Recipe,
    SubsetTrainings,
    agreement,
    auroc,
    el2n,
    example_table,
    influential_pairs,
    leave_one_out,
    prediction_depth,
    rank_correlations,
    scores_of_checkpoints,
    second_split,
    train_subsets,
)

N = 12
GROUPS = {"memorized": range(4), "clean": range(4, 8), "test": range(8, N)}
INPUTS = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))


def made(outputs: int, labels: Tensor, task: Any, true: Tensor | None = None) -> mv.Study:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, outputs)).eval()
    return mv.Study(model, INPUTS, labels, GROUPS, task=task, true_labels=true)


def regression(columns: int = 1) -> mv.Study:
    targets = torch.arange(N * columns).view(N, columns).float()
    true = targets.clone()
    true[2, -1] += 0.25
    given = (targets[:, 0], true[:, 0]) if columns == 1 else (targets, true)
    return made(columns, given[0], mv.tasks.Regression(0.5), given[1])


def whole_regression() -> mv.Study:
    """Targets that look like classes."""
    return made(1, (torch.arange(N) % 3).float(), mv.tasks.Regression(0.5))


def multi_label() -> mv.Study:
    labels = (torch.arange(3 * N).view(N, 3) % 5 < 2).long()
    true = labels.clone()
    true[2, 1] = 1 - true[2, 1]
    return made(3, labels, mv.tasks.MultiLabel(), true)


STUDIES: dict[str, Callable[[], mv.Study]] = {
    "regression": regression,
    "whole numbers": whole_regression,
    "several targets": partial(regression, 2),
    "multi-label": multi_label,
}


def fit(inputs: Any, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    raise AssertionError("a training was begun")


def trainings() -> SubsetTrainings:
    inside = torch.rand(6, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    correct = torch.zeros(6, N, dtype=torch.bool)
    correct[:, :8] = inside
    correct[:, 8:] = inside[:, :1]
    return SubsetTrainings(torch.arange(8), inside, correct)


DOORS: dict[str, Callable[[mv.Study], Any]] = {
    "ClassMem scores": class_mem,
    "class selectivity scores": class_selectivity,
    "ClassMem scores ": class_memorization,
    "nearest-neighbour probes": prediction_depth,
    "EL2N scores": el2n,
    "EL2N scores and prediction depths": scores_of_checkpoints,
    "trainings on subsets": lambda study: train_subsets(study, fit),
    "trainings on subsets ": lambda study: leave_one_out(study, fit, [0, 1]),
    "pairs of the same class": lambda study: influential_pairs(study, trainings()),
}


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("door", DOORS)
def test_a_study_without_classes_is_refused_in_one_sentence(door: str, kind: str) -> None:
    study = STUDIES[kind]()
    task = type(study.task).__name__
    said = f"^{door.strip()} need one class per example, and the labels of {task} are not classes; "
    with pytest.raises(ValueError, match=said):
        DOORS[door](study)


@pytest.mark.parametrize("kind", STUDIES)
def test_pairs_of_any_label_need_no_class(kind: str) -> None:
    found = influential_pairs(STUDIES[kind](), trainings(), same_class=False)
    assert set(found["test example"]) == set(range(8, N))


@pytest.mark.parametrize("labels", [torch.linspace(0, 1, N), torch.eye(N, 3).long()])
def test_labels_given_by_hand_are_refused_too(labels: Tensor) -> None:
    encoder, classes = nn.Sequential(nn.Linear(4, 5), nn.ReLU()).eval(), torch.arange(N) % 2
    recipe = Recipe(partial(MLP, (4, 8, 2)), epochs=1)
    for call in (
        lambda: ProbeAccuracy(INPUTS, labels, INPUTS, classes, "knn"),
        lambda: ProbeAccuracy(INPUTS, classes, INPUTS, labels),
        lambda: fine_tune_layers(encoder, ["0"], INPUTS, labels, epochs=1),
        lambda: layer_fine_tuning(encoder, {}, (INPUTS, classes), (INPUTS, labels), epochs=1),
        lambda: second_split(recipe, INPUTS, labels, epochs=1),
        lambda: recipe(INPUTS, labels, torch.arange(8), 0),
    ):
        with pytest.raises(ValueError, match="labels must be integers, one for each input"):
            call()
    with pytest.raises(ValueError, match="labels hold -1; number the classes from 0"):
        fine_tune_layers(encoder, ["0"], INPUTS, classes - 1, epochs=1)


@pytest.mark.parametrize("study", [regression(), regression(2), multi_label()])
def test_tables_take_any_labels_and_a_wrong_one_differs_anywhere(study: mv.Study) -> None:
    values = np.random.default_rng(0).permutation(N).astype(float)
    scores = [mv.Scores(name, "", values, examples=np.arange(N)) for name in "ab"]
    table = example_table(study, scores)
    assert study.true_labels is not None
    for column, labels in (("given label", study.labels), ("true label", study.true_labels)):
        rows = [tuple(row) if isinstance(row, list) else row for row in labels.tolist()]
        assert table[column].tolist() == rows
    wrong = np.arange(N) == 2
    found = agreement(study, scores)
    assert found.loc["a", "auroc"] == pytest.approx(auroc(values, wrong))
    assert found.equals(agreement(study, scores, torch.from_numpy(wrong)))
    assert rank_correlations(study, scores)["clean examples"].loc["a", "b"] == pytest.approx(1)
