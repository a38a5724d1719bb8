"""Every kind of file that memviz writes, damaged: the right content, or one sentence."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.search import cached_embeddings
from memviz.engine.sweep import Effects
from memviz.training.contrastive import ContrastiveRun, train_contrastive
from memviz.training.loop import train
from memviz.training.run import TrainingRun
from memviz.training.subsets import SubsetTrainings, train_subsets

ROUNDS = 24
SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 4, "checkpoint_epochs": (0, 1), "seed": 3}
INPUTS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 2
TOKENS = torch.tensor([[8, word, 9] for word in range(8)])


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


def study() -> mv.Study:
    groups = {"memorized": range(2), "clean": range(2, 6), "test": range(6, 8)}
    return mv.Study(network(), INPUTS, LABELS, groups)


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Parameter(INPUTS[:3, :1] + torch.eye(3)), nn.Embedding(10, 3)
        nn.init.constant_(self.text.weight, 0.5)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pictures = nn.functional.normalize(images @ self.image, dim=1)
        texts = nn.functional.normalize(self.text(tokens).mean(1), dim=1)
        return pictures, texts, self.logit_scale.exp()


def stop_at(last: int) -> Callable[[int, Any], None]:
    def on_epoch(epoch: int, *_: Any) -> None:
        if epoch == last:
            raise KeyboardInterrupt

    return on_epoch


def fit(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]


def flat(run: TrainingRun | ContrastiveRun, model: nn.Module | None = None) -> list[Tensor]:
    """All that a training gives."""
    states = [run.checkpoints[epoch] for epoch in run.checkpoints]
    states += [] if model is None else [model.state_dict()]
    if isinstance(run, ContrastiveRun):
        tables = [torch.tensor(run.loss)]
    else:
        tables = [tensor for _, tensor in sorted(run.tables.items())]
    return [*tables, *(tensor for state in states for _, tensor in sorted(state.items()))]


def effects_of(effects: Effects) -> list[Any]:
    tables = ("examples", "margin", "loss", "margin_change", "loss_change", "correct", "done")
    texts = (effects.units, effects.how, effects.engine, effects.why)
    return [*texts, *(getattr(effects, name) for name in tables)]


# Each writes into a folder, and returns a function that reads it.


def session(folder: Path) -> Callable[[], Any]:
    written = mv.Session(study())
    written.ablate("0:1,3", "scale 0.5")
    written.select([4, 2])
    written.save(folder / "session.json")

    def read() -> Any:
        again = mv.Session(written.study)
        again.load(folder / "session.json")
        return [again.state, again.examples, again.opened]

    return read


def effects(folder: Path) -> Callable[[], Any]:
    mv.sweep(study(), progress=False).save(folder / "effects.safetensors")
    return lambda: effects_of(Effects.load(folder / "effects.safetensors", study()))


def sweep_checkpoint(folder: Path) -> Callable[[], Any]:
    path, asked = folder / "sweep.safetensors", iter(range(99))
    with suppress(mv.CancelledError):
        mv.sweep(study(), path=path, progress=False, stop=lambda: next(asked) > 3)
    return lambda: effects_of(mv.sweep(study(), path=path, progress=False))


def embeddings(folder: Path) -> Callable[[], Any]:
    def read() -> Any:
        return [cached_embeddings(folder, model, "tower", model, INPUTS, progress=False)]

    model = network()
    read()
    return read


def run_file(folder: Path) -> Callable[[], Any]:
    train(network(), INPUTS, LABELS, **SETTINGS, progress=False).save(folder / "run.safetensors")
    return lambda: flat(TrainingRun.load(folder / "run.safetensors"))


def training(folder: Path) -> Callable[[], Any]:
    def read(**more: Any) -> Any:
        model = network()
        run = train(model, INPUTS, LABELS, **SETTINGS, progress=False, folder=folder, **more)
        return flat(run, model)

    with pytest.raises(KeyboardInterrupt):
        read(on_epoch=stop_at(2))
    return read


def contrastive(folder: Path) -> Callable[[], Any]:
    def read(**more: Any) -> Any:
        model = Towers()
        run = train_contrastive(
            model, INPUTS, TOKENS, **SETTINGS, progress=False, folder=folder, **more
        )
        return flat(run, model)

    with pytest.raises(KeyboardInterrupt):
        read(on_epoch=stop_at(2))
    return read


def subsets(folder: Path) -> Callable[[], Any]:
    def read() -> Any:
        found = train_subsets(study(), fit, trainings=3, progress=False, folder=folder)
        return [found.examples, found.inside, found.correct]

    read()
    return read


def subsets_file(folder: Path) -> Callable[[], Any]:
    path = folder / "subsets.safetensors"
    train_subsets(study(), fit, trainings=3, progress=False).save(path)

    def read() -> Any:
        found = SubsetTrainings.load(path)
        return [found.examples, found.inside, found.correct]

    return read


def damages(content: bytes) -> Iterator[bytes]:
    """The content with a bit flipped, cut, or longer than it was."""
    random = np.random.default_rng(0)
    for round_ in range(ROUNDS):
        ends = (len(content), min(len(content), 400))
        place = int(random.integers(ends[round_ % 2]))
        if round_ % 6 == 0:
            yield content[:place]
        elif round_ % 6 == 1:
            yield content + b"\0"
        else:
            bit = 1 << int(random.integers(8))
            yield content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
    yield b""


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    return bool(one == other)


KINDS = [
    session, effects, sweep_checkpoint, embeddings, run_file, training, contrastive, subsets,
    subsets_file,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_content_or_one_sentence(
    kind: Callable[[Path], Callable[[], Any]], tmp_path: Path
) -> None:
    folder, kept = tmp_path / "written", tmp_path / "kept"
    folder.mkdir()
    read = kind(folder)
    shutil.copytree(folder, kept)

    def restore() -> None:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)

    restore()
    expected = read()  # a training goes on from its folder, so it is restored before each reading
    files = [
        path for path in sorted(folder.rglob("*")) if (kept / path.relative_to(folder)).is_file()
    ]
    told: list[str] = []

    def use(file: Path) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found = read()
            except (ValueError, FileNotFoundError) as error:
                told.append(str(error))
                return
        told.extend(str(warning.message) for warning in warned)
        assert all(map(same, found, expected)), f"{file.name} was read as something else"

    for file in files:
        content = (kept / file.relative_to(folder)).read_bytes()
        for damaged in damages(content):
            restore()
            file.write_bytes(damaged)
            use(file)
        restore()
        file.unlink()
        os.mkfifo(file)
        use(file)
    assert files and told
    for sentence in told:
        assert str(folder) in sentence and "\n" not in sentence and len(sentence) < 700, sentence
