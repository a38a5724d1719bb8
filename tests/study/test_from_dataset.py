"""A study of a dataset answers as one of the same tensor does; what can't be read is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torch.utils.data import default_collate as collate

import memviz as mv
from memviz.engine.activations import activation_statistics
from memviz.engine.gradients import gradient_norms
from memviz.study import DatasetInputs, FromDataset, study_facts

N = 24
GROUPS = {"memorized": range(6), "clean": range(6, 18), "test": range(18, N)}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 8), nn.ReLU(),
        nn.Linear(8, 3),
    ).eval()  # fmt: skip


def pixels() -> Tensor:
    return torch.randint(0, 256, (N, 8, 8), generator=torch.Generator().manual_seed(1))


LABELS = torch.arange(N) % 3


def to_tensor(image: Any) -> Tensor:
    return torch.tensor(np.array(image)).float()[None] / 255


class Pictures(Dataset[Any]):
    """Pictures with a transform, as torchvision has them; counts what was read."""

    def __init__(self, transform: Callable[[Any], Any] = to_tensor, **more: Any) -> None:
        self.data, self.transform = pixels().to(torch.uint8).numpy(), transform
        self.targets = LABELS.tolist()
        self.read: list[int] = []
        self.change: Callable[[int, Any], Any] = more.get("change", lambda _, item: item)

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        item = self.transform(Image.fromarray(self.data[index])), self.targets[index]
        return self.change(index, item)


def lazily(dataset: Any = None, labels: Any = None, **more: Any) -> mv.Study:
    return mv.Study(net(), Pictures() if dataset is None else dataset, labels, GROUPS, **more)


def whole() -> mv.Study:
    return mv.Study(
        net(), torch.stack([to_tensor(image) for image in pixels().numpy()]), LABELS, GROUPS
    )


ANSWERS: dict[str, Callable[[mv.Study], Any]] = {
    "sweep": lambda s: mv.sweep(s, progress=False).margin_change,
    "sweep without memory": lambda s: mv.sweep(s, memory=0, progress=False).margin_change,
    "sweep, mean": lambda s: mv.sweep(s, "3:0-3", how="mean", progress=False).margin_change,
    "sweep, resample": lambda s: (
        mv.sweep(s, "3:0-3", [5, 1], how="resample", progress=False).loss_change
    ),
    "readout": lambda s: mv.readout(s, "0:1 3:2", random_draws=3).random["clean"],
    "ablate": lambda s: ablated(s),
    "estimate": lambda s: mv.estimate(s).margin_change,
    "curve": lambda s: (
        mv.ablation_curve(
            s, mv.estimate(s).scores("memorized", "clean"), [0, 2, 5], random_draws=2
        ).random
    ),
    "greedy": lambda s: [unit.index for unit in mv.greedy(s, 2, progress=False).order],
    "gradients": lambda s: gradient_norms(s, progress=False).values,
    "activations": lambda s: activation_statistics(s, progress=False).mean,
    "activations of copies": lambda s: (
        activation_statistics(
            s, augment=lambda x, g: x + torch.randn(x.shape, generator=g), copies=2, progress=False
        ).mean
    ),
    "attributions": lambda s: mv.attribute_inputs(s, [3, 20]).as_subclass(Tensor),
    "attributions to units": lambda s: mv.attribute_layers(s, [3, 20]).values,
    "facts": lambda s: [hash(text) for text in study_facts(s).values()],
    "session": lambda s: mv.Session(s).replay.outputs("0:0"),
}


def ablated(study: mv.Study) -> Tensor:
    with mv.ablate(study, "0:1") as model, torch.no_grad():
        return model(study.batch(torch.arange(N)))


@pytest.mark.parametrize("which", ANSWERS)
def test_every_path_answers_as_on_a_tensor(which: str) -> None:
    answers = [ANSWERS[which](study) for study in (lazily(), whole())]
    one, other = ([*a.values()] if isinstance(a, dict) else [a] for a in answers)
    assert one and len(one) == len(other)
    for given, wanted in zip(one, other, strict=True):
        assert np.array_equal(np.asarray(given), np.asarray(wanted))


def test_reading_is_no_part_of_a_watched_pass() -> None:
    assert gradient_norms(lazily(), progress=False).one_by_one == ()
    convolved = nn.Sequential(nn.Conv2d(1, 24, 3), nn.ReLU(), nn.Flatten(), nn.Linear(864, 3))
    study = mv.Study(convolved.eval(), Pictures(), groups=GROUPS)
    assert gradient_norms(study, progress=False).one_by_one == ()


def test_saved_effects_are_those_of_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "effects.safetensors"
    mv.sweep(whole(), path=path, progress=False)
    dataset = Pictures()
    assert mv.sweep(lazily(dataset), path=path, progress=False).done.all()


def test_nothing_is_kept_unless_asked() -> None:
    for keep in (False, True):
        dataset = Pictures()
        study = lazily(FromDataset(dataset, keep=keep))
        few = torch.tensor([4, 2, 4])
        dataset.read.clear()
        for _ in range(3):
            assert torch.equal(study.batch(few), whole().batch(few))
        assert dataset.read == ([2, 4] if keep else [4, 2, 4] * 3)


def test_the_order_and_the_batch_of_indices_change_nothing() -> None:
    study, rows = lazily(), whole().batch(torch.arange(N))
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    assert torch.equal(study.batch(shuffled), rows[shuffled])
    assert torch.equal(study.batch(torch.tensor([7])), rows[7:8])
    assert torch.equal(study.whole_inputs(), rows)


def test_worker_processes_read_the_same() -> None:
    study = lazily(FromDataset(Pictures(), num_workers=2))
    before = torch.get_rng_state()
    assert torch.equal(study.batch(torch.tensor([9, 1, 5])), whole().batch(torch.tensor([9, 1, 5])))
    assert torch.equal(study.batch(torch.arange(N)), whole().batch(torch.arange(N)))
    assert torch.equal(before, torch.get_rng_state())
    dataset = Pictures(change=lambda index, item: item if index != 17 else 1 / 0)
    broken = Subset(dataset, [k for k in range(N) if k != 17] + [17])
    with pytest.raises(ValueError, match="example 23 of the dataset can't be read: ZeroDivision"):
        lazily(FromDataset(broken, num_workers=2), None)


class Words(Dataset[Any]):
    """Items by name, with more than the model takes, as Hugging Face has them."""

    column_names = ("text", "ids", "weight", "label")

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        row = torch.arange(5) * (index + 1) % 10
        return {"text": "a b", "ids": row, "weight": row / 10, "label": int(LABELS[index])}

    def __getitems__(self, indices: list[int]) -> Any:
        return [self[index] for index in indices]

    def with_format(self, kind: None) -> dict[str, Any]:
        return {"label": LABELS.tolist()}


class OfWords(nn.Module):
    """Takes two inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.fc, self.head = nn.Embedding(10, 4), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, ids: Tensor, weight: Tensor) -> Tensor:
        return self.head(torch.relu(self.fc((self.words(ids) * weight[..., None]).sum(1))))


def test_items_with_names_go_to_the_arguments_of_those_names() -> None:
    study = mv.Study(OfWords().eval(), Words(), groups=GROUPS)
    items = [Words()[k] for k in range(N)]
    inputs = {key: torch.stack([item[key] for item in items]) for key in ("ids", "weight")}
    same = mv.Study(OfWords().eval(), inputs, LABELS, GROUPS)
    assert torch.equal(study.labels, LABELS)
    assert torch.equal(
        mv.sweep(study, progress=False).margin_change, mv.sweep(same, progress=False).margin_change
    )
    assert study_facts(study) == study_facts(same)
    one = mv.attribute_inputs(study, [3], of="weight").as_subclass(Tensor)
    assert torch.equal(one, mv.attribute_inputs(same, [3], of="weight").as_subclass(Tensor))


def test_a_dict_of_one_input_is_that_input() -> None:
    def renamed(batch: list[Any]) -> Any:
        inputs, labels = collate(batch)
        return {"image": inputs, "labels": labels}

    study = lazily(FromDataset(Pictures(), renamed))
    assert torch.equal(study.batch(torch.tensor([2])), whole().batch(torch.tensor([2])))
    assert torch.equal(study.labels, LABELS)


def test_labels_come_from_the_dataset() -> None:
    dataset = Pictures()
    assert torch.equal(lazily(dataset).labels, LABELS)
    assert len(set(dataset.read)) < N  # beside the items: none was read for them
    del dataset.targets
    dataset.targets = LABELS.tolist()
    no_list = Pictures(change=lambda index, item: (item[0], 2 - item[1]))
    assert torch.equal(lazily(no_list).labels, 2 - LABELS)  # of the items, where the two differ
    numbers = TensorDataset(torch.randn(N, 4), torch.rand(N))
    study = mv.Study(nn.Linear(4, 1).eval(), numbers, groups=GROUPS, task=mv.Regression(0.1))
    assert torch.equal(study.labels, numbers.tensors[1])
    part = Subset(Pictures(), range(N - 1, -1, -1))
    assert torch.equal(lazily(part).labels, LABELS.flip(0))


def test_labels_of_the_dataset_may_be_the_true_ones() -> None:
    noisy = LABELS.clone()
    noisy[:6] = (noisy[:6] + 1) % 3
    study = lazily(Pictures(), noisy, true_labels=LABELS)
    assert torch.equal(study.labels, noisy) and mv.sweep(study, "3:0", progress=False).done.all()
    with pytest.raises(ValueError, match="example 0 has the label 1 in labels and 0 in the datas"):
        lazily(Pictures(), noisy)
    unlisted = TensorDataset(whole().whole_inputs(), LABELS, torch.arange(N))
    by_pairs = FromDataset(unlisted, lambda items: collate([item[:2] for item in items]))
    late = LABELS.clone()
    late[19] = 0  # none of the few that are read at first
    study = lazily(by_pairs, late)  # nothing tells yet
    with pytest.raises(ValueError, match="example 19 has the label 0 in labels and 1 in the datas"):
        mv.sweep(study, progress=False)


class NoLength(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return torch.zeros(1, 8, 8), 0


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


class Empty(Dataset[Any]):
    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Any:
        raise IndexError


def only(index: int, then: Callable[[Any], Any]) -> Pictures:
    return Pictures(change=lambda k, item: then(item) if k == index else item)


def flipped(image: Any) -> Tensor:
    value = to_tensor(image)
    return value.flip(-1) if torch.rand(()) < 0.5 else value


def other_each_time() -> Callable[[Any], Tensor]:
    calls = iter(range(10**6))
    return lambda image: to_tensor(image) + next(calls)


def padded(items: list[Any]) -> Any:
    longest = max(int(item[1]) for item in items) + 1
    return torch.zeros(len(items), 1, 8, 8 + longest), torch.tensor([item[1] for item in items])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (
        lambda: only(23, lambda item: 1 / 0),
        "example 23 of the dataset can't be read: ZeroDivisionError: division by zero; mend it, or",
    ),
    "other shapes": (
        lambda: only(23, lambda item: (item[0][:, :7], item[1])),
        "example 23 of the dataset is float32 of shape .1, 7, 8., and example 0 is float32 of s",
    ),
    "other numbers": (
        lambda: only(23, lambda item: (item[0].double(), item[1])),
        "example 23 of the dataset is float64 of shape .1, 8, 8., and example 0 is float32 of s",
    ),
    "padded to the longest": (
        lambda: FromDataset(Pictures(), padded),
        "example 7 of the dataset is float32 of shape .1, 8, 10., and example 0 is float32",
    ),
    "not a number": (
        lambda: only(23, lambda item: (item[0] * torch.nan, item[1])),
        "the input of example 23 holds nan; leave the example out, or fill in what is unknown",
    ),
    "no length": (NoLength, "NoLength has no length; give its class __len__, the number of its it"),
    "no index": (
        Endless,
        "Endless is an IterableDataset, which is read in one order only, and mem",
    ),
    "empty": (Empty, "Empty is empty; give a dataset with at least one item"),
    "random": (
        lambda: Pictures(flipped),
        "two reads of example .* of the dataset differ; switch off its random transforms, and let",
    ),
    "seldom random": (
        lambda: Pictures(lambda x: to_tensor(x) + (torch.rand(()) < 0.02)),
        "two reads of example .* differ",
    ),
    "other each time": (lambda: Pictures(other_each_time()), "two reads of example .* differ"),
    "mixed": (
        lambda: FromDataset(
            Pictures(), lambda items: [collate(items)[0] - collate(items)[0].mean(), LABELS[:1]]
        ),
        "two reads of example .* differ",
    ),
    "pictures": (
        lambda: Pictures(lambda image: image),
        "example 0 of the dataset can't be read: TypeError: .*; give the dataset a transform",
    ),
    "three parts": (
        lambda: Pictures(change=lambda k, item: (*item, k)),
        "example 0 .*: an item has 3 parts; make it .input, label., or let collate_fn return",
    ),
    "a word": (
        lambda: Pictures(lambda _: "a"),
        "example 0 .*: an item's input is tuple; make it a",
    ),
    "a loader": (lambda: DataLoader(Pictures()), "inputs is DataLoader; give loader.dataset, whic"),
    "a loader inside": (
        lambda: FromDataset(DataLoader(Pictures())),
        "dataset is DataLoader; gi",
    ),
    "a number": (lambda: FromDataset(3), "dataset is 3; give a map-style dataset"),
    "labels that are words": (
        lambda: Pictures(change=lambda k, item: (item[0], "cat")),
        "labels of the dataset holds str, not numbers",
    ),
    "no labels": (
        lambda: Pictures(change=lambda k, item: item[0]),
        "the dataset's items hold no labels, and none are given; give labels=",
    ),
    "another length": (
        lambda: Subset(Pictures(), range(20)),
        "group 'test' names 20; this study has 20 examples",
    ),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_can_not_be_read_is_refused_in_one_sentence(which: str) -> None:
    make, words = REFUSED[which]
    net()  # which seeds, as it does again below
    before = torch.get_rng_state()
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        lazily(make())
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 400
    assert torch.equal(before, torch.get_rng_state())


def test_names_that_the_model_does_not_take() -> None:
    with pytest.raises(ValueError, match="an item holds 'text', 'ids', 'weight', 'label', and the"):
        mv.Study(net(), Words(), groups=GROUPS)


def test_labels_of_another_number_than_the_items() -> None:
    with pytest.raises(
        ValueError, match="the dataset holds 24 examples and labels 20; they must h"
    ):
        mv.Study(net(), Pictures(), LABELS[:20], {"test": range(20)})


def test_a_dataset_that_raises_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    dataset, study_path = Pictures(), tmp_path / "effects.safetensors"
    study = lazily(dataset)
    weights = {key: value.clone() for key, value in study.model.state_dict().items()}
    mv.sweep(study, "0:0-1", path=study_path, progress=False)
    dataset.change = lambda index, item: item if index != 13 else 1 / 0
    with pytest.raises(ValueError, match="example 13 of the dataset can't be read: ZeroDivision"):
        mv.sweep(study, progress=False)
    with pytest.raises(ValueError, match="example 13"):
        mv.readout(study, "0:1")
    assert all(torch.equal(value, study.model.state_dict()[key]) for key, value in weights.items())
    assert not any(module._forward_hooks for module in study.model.modules())
    dataset.change = lambda index, item: item
    effects = mv.sweep(study, progress=False)
    assert torch.equal(effects.margin_change, mv.sweep(whole(), progress=False).margin_change)


def test_a_dataset_that_becomes_another_is_refused() -> None:
    dataset = Pictures()
    study = lazily(dataset)
    replay = mv.Replay(study, memory=0)
    dataset.data = 255 - dataset.data
    with pytest.raises(ValueError, match="two reads of example 0 of the dataset differ"):
        replay.outputs("0:0")


def test_a_study_of_a_dataset_can_be_changed_in_part() -> None:
    from dataclasses import replace

    study = lazily()
    other = replace(study, model=net(), checkpoints={})
    assert isinstance(other.inputs, DatasetInputs) and torch.equal(other.labels, LABELS)
    assert repr(study) == "Study('study': Sequential, 24 examples: 6 memorized, 12 clean, 6 test)"
