"""Every kind of file that memviz writes: written into a folder, and a function that reads it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

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


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    return bool(one == other)


KINDS = [
    session, effects, sweep_checkpoint, embeddings, run_file, training, contrastive, subsets,
    subsets_file,
]  # fmt: skip
