"""The digits study trained with example-tied dropout, so that its memorization can be dropped.

Recipe. Examples, network and training are exactly those of ``memviz.demos.digits``. Example-tied
dropout follows each of the five ReLUs, with the shares of Maini et al. (2023), 0.2 for
generalization and 0.1 for memorization; the masks are drawn from the study's seed.

``python -m memviz.demos.example_tied`` prints the accuracies of three seeds, beside the plain
network's; ``python -m memviz.demos.example_tied train`` trains the shipped weights again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from memviz.demos import digits
from memviz.models.convnet import ConvNet
from memviz.study import Study
from memviz.training.batch_norm import recalibrate_batch_norm
from memviz.training.example_tied_dropout import Mode, insert_example_tied_dropout, set_mode
from memviz.training.loop import train

from ._kept import Kept, announce, folder_to_prepare, warn_not_kept

RECIPE = "example-tied-1"  # Change it with any setting below: other stored weights are refused.
LAYERS = ("relu1", "relu2", "relu3", "relu4", "relu5")
GENERALIZATION, MEMORIZATION = 0.2, 0.1
SHIPPED_SEEDS = (0, 1, 2)
TRAINING_SECONDS = 35  # On two cores; printed before a training starts.
MINUTES = TRAINING_SECONDS / 60  # To prepare one seed on two cores.
_LAST = f"epoch{digits.EPOCHS}"


def load(seed: int = 0, mode: Mode = "dropped") -> Study:
    """The ready study of a seed, its inputs with their example ids.

    Groups are those of the digits study: memorized (120), clean (1,080) and test (597).
    ``memviz.training.example_tied_dropout.set_mode(study.model, "own")`` lets each example have
    its own channels; ``"scaled"`` and ``"dropped"`` are the other modes. In mode own a test image
    has a mask that nothing was trained with.

    Seeds 0, 1 and 2 come with the package; another is trained on first use, about half a minute on
    two cores, and kept in the cache folder.

    Raises
    ------
    ValueError : the seed is not a whole number from 0 up, the mode is unknown, or the shipped
        weights are damaged.

    Examples
    --------
    >>> study = load(seed=0)
    >>> examples = study.group("memorized")
    >>> right = study.model(**study.batch(examples)).argmax(1) == study.labels[examples]
    >>> bool(right.float().mean() < 0.05)
    True
    """
    data, model = digits.examples(seed), _model(seed)
    set_mode(model, mode)  # a wrong one is told before a training
    kept = _kept(seed)
    state = kept.read(_LAST)
    if state is None:
        announce(
            f"Training the digits with example-tied dropout for seed {seed}: about "
            f"{TRAINING_SECONDS} s on two cores, once; the weights are kept in {kept.folder}."
        )
        _fit(model, data, seed)
        try:
            kept.write_network(_LAST, model, _predicted(data.inputs))
        except OSError as error:
            warn_not_kept(error)
    else:
        model.load_state_dict(state)
    set_mode(model, mode)
    return Study(
        # Quicker on a CPU; the figures stay the same.
        model.eval().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        {"images": data.inputs, "example_ids": torch.arange(len(data.inputs))},
        data.labels,
        data.groups,
        true_labels=data.true_labels,
        class_names=[str(digit) for digit in range(digits.CLASSES)],
        name="example-tied dropout",
        summary=f"4-conv net with example-tied dropout · {digits.TRAINING:,} training images, "
        f"{int(data.groups['memorized'].sum())} with wrong labels",
        images=(data.inputs[:, 0] * 255).byte().numpy(),
        origin=f"memviz.demos.example_tied.load(seed={seed})",
    )


def accuracies(seed: int = 0) -> dict[str, dict[str, float]]:
    """Share of each group predicted as its given label, in each mode and by the plain network.

    ``"another's"`` is the null of ``"own"``: each example with the mask of the next one.
    ``"dropped, recalibrated"`` has its batch-norm statistics recomputed on the training images.
    """
    study, data = load(seed), digits.examples(seed)
    ids, by_mode = torch.arange(len(data.inputs)), {}
    for mode in ("own", "scaled", "dropped"):
        set_mode(study.model, mode)
        by_mode[mode] = _accuracies(study.model, data, ids)
    recalibrated = recalibrate_batch_norm(study.model, data.training[0])
    by_mode["dropped, recalibrated"] = _accuracies(recalibrated, data, ids)
    set_mode(study.model, "own")
    by_mode["another's"] = _accuracies(study.model, data, ids.roll(1))
    plain = digits.load(seed)
    by_mode["plain network"] = data.accuracies(plain.model)
    return by_mode


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train from the recipe and write the weights; returns their folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        data, model = digits.examples(seed), _model(seed)
        _fit(model, data, seed)
        _kept(seed).write_network(_LAST, model, _predicted(data.inputs), target)
        print(f"example-tied dropout, seed {seed}: written to {target}")
    return target


def main(arguments: list[str]) -> None:
    """Print the accuracies of the shipped seeds, their mean and their range."""
    if arguments == ["train"]:
        prepare()
    tables = [accuracies(seed) for seed in SHIPPED_SEEDS]
    print(f"share with the given label, mean of seeds {SHIPPED_SEEDS} (lowest to highest)")
    for name in tables[0]:
        cells = []
        for group in ("memorized", "clean", "test"):
            values = [table[name][group] for table in tables]
            mean = sum(values) / len(values)
            cells.append(f"{group} {mean:.3f} ({min(values):.3f} to {max(values):.3f})")
        print(f"  {name:<22} {'  '.join(cells)}")


def _model(seed: int) -> ConvNet:
    model = ConvNet(digits.CHANNELS, digits.HIDDEN, digits.CLASSES, seed=int(seed))
    insert_example_tied_dropout(model, LAYERS, GENERALIZATION, MEMORIZATION, seed=int(seed))
    return model


def _fit(model: ConvNet, data: digits.Digits, seed: int) -> None:
    train(
        model,
        *data.training,
        epochs=digits.EPOCHS,
        batch_size=digits.BATCH_SIZE,
        learning_rate=digits.LEARNING_RATE,
        weight_decay=digits.WEIGHT_DECAY,
        seed=int(seed),
    )


def _kept(seed: int) -> Kept:
    facts = {"recipe": RECIPE, "seed": str(seed)}
    return Kept(f"example-tied-seed{seed}", facts, seed in SHIPPED_SEEDS)


def _predicted(inputs: Tensor) -> Callable[[nn.Module], Tensor]:
    """A function to a model's predictions, with own channels and then without memorization."""

    @torch.no_grad()
    def predicted(model: nn.Module) -> Tensor:
        ids, classes = torch.arange(len(inputs)), []
        for mode in ("own", "dropped"):
            set_mode(model, mode)
            classes.append(model.eval()(inputs, example_ids=ids).argmax(1))
        return torch.cat(classes)

    return predicted


@torch.no_grad()
def _accuracies(model: nn.Module, data: digits.Digits, ids: Tensor) -> dict[str, float]:
    right = model(data.inputs, example_ids=ids).argmax(1) == data.labels
    return {name: right[mask].float().mean().item() for name, mask in data.groups.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
