"""Small operations that are interrupted: each in a fresh state, with what it keeps and leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models.mlp import MLP
from memviz.tensor_files import State, digest, read
from memviz.training.contrastive import FILE as CONTRASTIVE
from memviz.training.contrastive import train_contrastive
from memviz.training.early_learning import ELR, train_two
from memviz.training.example_tied_dropout import insert_example_tied_dropout
from memviz.training.loop import train
from memviz.training.self_supervised import train_masked, train_simclr
from memviz.training.subsets import Recipe, train_subsets

N, WIDTH, CLASSES = 40, 6, 3
SETTINGS = {"epochs": 6, "batch_size": 10, "seed": 3, "progress": False}


def drawn(*shape: int) -> Tensor:
    """Values that are the same on every machine."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


INPUTS, LABELS = drawn(N, WIDTH), torch.arange(N) % CLASSES


def network(seed: int = 0, outputs: int = CLASSES) -> nn.Sequential:
    """A small network with batch norm and dropout, its weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(WIDTH, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(16, outputs),
        )  # fmt: skip


class Towers(nn.Module):
    """Two small towers, called as open_clip's models are."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = network(1, 8), nn.Embedding(40, 8)
        self.text.weight.data = drawn(40, 8)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of both, of length 1, and the scale of their products."""
        features = self.image(images), self.text(tokens).mean(1)
        pictures, texts = (nn.functional.normalize(one, dim=1) for one in features)
        return pictures, texts, self.logit_scale.exp()


def noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """An augmentation."""
    return images + 0.3 * torch.randn(images.shape, generator=generator)


class Operation(ABC):
    """One operation on fresh objects.

    Attributes
    ----------
    modules : by their names in the file.
    """

    file = ""

    def __init__(self) -> None:
        self.modules: dict[str, nn.Module] = {}

    @abstractmethod
    def run(self, folder: Path) -> State:
        """Do all of it, or go on; what it gives."""

    def state(self) -> dict[str, str]:
        """Hashes of the modules' weights."""
        return {name: digest(module.state_dict()) for name, module in self.modules.items()}

    def agrees(self, folder: Path, whole: Mapping[str, Tensor], start: Mapping[str, str]) -> bool:
        """Whether the modules are as the file says, or as they began where there is none."""
        path = folder / self.file
        if not path.is_file():
            return self.state() == start
        kept, _ = read(path)
        return all(
            digest(module.state_dict()) == digest(_part(kept, name))
            or digest(module.state_dict()) == digest(_part(kept, "best"))
            for name, module in self.modules.items()
        )


def _part(kept: Mapping[str, Tensor], name: str) -> State:
    start = f"{name}/"
    return {key[len(start) :]: tensor for key, tensor in kept.items() if key.startswith(start)}


class Training(Operation):
    """The plain loop, with a loss that learns and example-tied dropout."""

    file = "training.safetensors"

    def __init__(self) -> None:
        model = insert_example_tied_dropout(network(), ["3"])
        self.modules = {"model": model, "loss": ELR(N, CLASSES)}

    def run(self, folder: Path) -> State:
        """Tables of the run, and its checkpoints."""
        model, loss = self.modules.values()
        run = train(
            model, INPUTS, LABELS, loss=loss, checkpoint_epochs=(0, 3), folder=folder, **SETTINGS
        )  # type: ignore[arg-type]
        return run.tables | {f"3/{name}": value for name, value in run.checkpoints[3].items()}


class Contrastive(Operation):
    """CLIP's loss, with held-out pairs and patience."""

    file = CONTRASTIVE

    def __init__(self) -> None:
        self.modules = {"model": Towers()}

    def run(self, folder: Path) -> State:
        """Losses, and a checkpoint."""
        tokens = torch.arange(N * 4).view(N, 4) * 7 % 37 + 1
        run = train_contrastive(
            self.modules["model"], INPUTS, tokens, held_out=(INPUTS.flip(0)[:9], tokens[:9]),
            patience=5, caption_masking=0.3, temperature=0.1, checkpoint_epochs=(0, 2),
            folder=folder, **SETTINGS,
        )  # type: ignore[arg-type]  # fmt: skip
        losses = {"loss": torch.tensor(run.loss), "held_out": torch.tensor(run.held_out_loss)}
        return losses | {f"2/{name}": value for name, value in run.checkpoints[2].items()}


class Simclr(Operation):
    """Two views of an image."""

    file = "self_supervised.safetensors"

    def __init__(self) -> None:
        self.modules = {"model": network(2)}

    def run(self, folder: Path) -> State:
        """Losses and head."""
        run = train_simclr(self.modules["model"], INPUTS, noise, folder=folder, **SETTINGS)  # type: ignore[arg-type]
        return {"loss": torch.tensor(run.loss)} | run.head.state_dict()


class Masked(Simclr):
    """Images of which parts are hidden."""

    def run(self, folder: Path) -> State:
        """Losses and head."""
        images = INPUTS.view(N, 1, 2, 3).repeat(1, 1, 1, 2)[..., :3].contiguous()
        run = train_masked(self.modules["model"], images, patch=1, folder=folder, **SETTINGS)  # type: ignore[arg-type]
        return {"loss": torch.tensor(run.loss)} | run.head.state_dict()


class TwoNetworks(Operation):
    """ELR+: two networks, their averages and their losses."""

    file = "two_networks.safetensors"

    def __init__(self) -> None:
        self.modules = {
            "model": nn.ModuleList([network(3), network(4)]),
            "loss": nn.ModuleList([ELR(N, CLASSES), ELR(N, CLASSES)]),
        }

    def run(self, folder: Path) -> State:
        """Averages, and tables of the run."""
        models, losses = (tuple(modules) for modules in self.modules.values())
        both, run = train_two(models, INPUTS, LABELS, losses, folder=folder, **SETTINGS)  # type: ignore[arg-type]
        return run.tables | both.state_dict()


def study() -> mv.Study:
    """A study of a small network."""
    groups = {"memorized": range(4), "clean": range(4, 30), "test": range(30, N)}
    return mv.Study(network().eval(), INPUTS, LABELS, groups)


class Subsets(Operation):
    """Trainings on subsets."""

    def run(self, folder: Path) -> State:
        """Who was inside, and what was right."""
        recipe = Recipe(partial(MLP, (WIDTH, 8, CLASSES)), epochs=2, batch_size=10)
        found = train_subsets(study(), recipe, trainings=5, folder=folder, progress=False)
        return {"inside": found.inside, "correct": found.correct}

    def agrees(self, folder: Path, whole: Mapping[str, Tensor], start: Mapping[str, str]) -> bool:
        """Whether every file is whole."""
        return all(len(read(path)[0]) == 2 for path in folder.glob("*.safetensors"))


class Sweep(Operation):
    """A sweep with a file."""

    def __init__(self) -> None:
        self.study = study()
        self.modules = {"model": self.study.model}

    def run(self, folder: Path) -> State:
        """The effects."""
        effects = mv.sweep(self.study, path=folder / "effects.safetensors", progress=False)
        return {name: getattr(effects, name) for name in ("margin_change", "loss_change", "done")}

    def agrees(self, folder: Path, whole: Mapping[str, Tensor], start: Mapping[str, str]) -> bool:
        """Whether the model is as it was, and the file's finished units are right."""
        path = folder / "effects.safetensors"
        if not path.is_file():
            return self.state() == start
        kept, _ = read(path)
        done = kept["done"]
        same = torch.equal(kept["margin_change"][done], whole["margin_change"][done])
        return same and self.state() == start


OPERATIONS: dict[str, Any] = {
    "train": Training,
    "train_contrastive": Contrastive,
    "train_simclr": Simclr,
    "train_masked": Masked,
    "train_two": TwoNetworks,
    "train_subsets": Subsets,
    "sweep": Sweep,
}
