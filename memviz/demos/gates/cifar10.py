"""A LogicTreeNet on CIFAR-10, as large as one core trains in an hour, and resumable.

``python -m memviz.demos.gates.cifar10 FOLDER --out FOLDER2 --minutes 60`` trains on the training
images in FOLDER and prints, epoch by epoch, the soft and the hard accuracy on the test images. The
training is kept in FOLDER2 after every epoch; the same command goes on from there. No augmentation;
the settings are those of Petersen et al. 2024 as far as they are known.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from memviz.data.loaders import load_cifar10
from memviz.models.logic_gates import Gates, TreeConv, logic_tree_net
from memviz.tensor_files import atomic_write
from memviz.training.gates import soft_and_hard, train_gates

PAPER = {"S": 60.38, "M": 71.01, "B": 80.17, "L": 84.99, "G": 86.29}  # hard, per cent
LOG = "epochs.json"
EPOCHS = 1000  # The minutes end it; the learning rate is constant, so that any epoch can be last.


class _TimeIsUp(Exception):
    """The training has used its minutes."""


def gate_counts(model: nn.Module, image: Tensor) -> tuple[int, int]:
    """Gates with logits of their own, and gates counted at every place they are evaluated at.

    Parameters
    ----------
    image : ``[1, channels, height, width]``

    Examples
    --------
    >>> gate_counts(logic_tree_net(8), torch.zeros(1, 3, 32, 32))
    (20888, 218624)
    """
    own = placed = 0
    x = image
    for layer in model.children():
        x = layer(x)
        gates = [part.logits[..., 0].numel() for part in layer.modules() if isinstance(part, Gates)]
        own += sum(gates)
        placed += sum(gates) * (x[0, 0].numel() if isinstance(layer, TreeConv) else 1)
    return own, placed


def report(
    folder: str | Path,
    out: str | Path,
    *,
    size: str | int = "S",
    minutes: float = 60.0,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train until the minutes are used, and print the accuracies of each epoch.

    Parameters
    ----------
    folder : str or Path
        Folder of CIFAR-10, or of a part of it; see :func:`memviz.data.loaders.load_cifar10`.
    out : str or Path
        Keeps the training; what it holds counts toward the minutes.
    size : str or int
        Of :func:`memviz.models.logic_gates.logic_tree_net`.
    minutes : float
        CPU minutes of this process and of those that trained before it.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold CIFAR-10.
    """
    data = load_cifar10(folder)
    images = torch.cat([data.images, data.test_images]).permute(0, 3, 1, 2).float() / 255
    labels = torch.cat([data.labels, data.test_labels])
    test = torch.arange(len(images)) >= len(data.images)
    model = logic_tree_net(size, seed=seed).to(device)
    own, placed = gate_counts(model, images[:1].to(device))
    print(
        f"LogicTreeNet {size}: {own:,} gates, {placed:,} at all places; {len(data.images):,} "
        f"training and {len(data.test_images):,} test images"
    )
    log = Path(out) / LOG
    epochs: dict[str, list[float]] = json.loads(log.read_text()) if log.is_file() else {}
    before = max((row[0] for row in epochs.values()), default=0.0)

    def after(epoch: int, model: nn.Module) -> None:
        spent = before + time.process_time() / 60
        if spent > minutes:
            raise _TimeIsUp
        found = soft_and_hard(model, images[test].to(device))
        shares = [(found[name] == labels[test]).double().mean().item() for name in found]
        epochs[str(epoch)] = [spent, *shares]
        with atomic_write(log) as part:
            part.write_text(json.dumps(epochs))
        soft, hard = shares
        print(f"epoch {epoch}: soft {soft:.4f}, hard {hard:.4f}, {spent:.1f} min", flush=True)

    with suppress(_TimeIsUp):
        train_gates(
            model,
            images.to(device),
            labels.to(device),
            {},
            examples=~test,
            epochs=EPOCHS,
            measure_epochs=(),
            seed=seed,
            on_epoch=after,
            folder=out,
            progress=False,
        )
    if not epochs:
        print(f"no epoch was done in {minutes:g} minutes")
        return
    last = max(epochs, key=int)
    spent, soft, hard = epochs[last]
    print(f"after {last} epochs and {spent:.0f} CPU minutes: soft {soft:.2%}, hard {hard:.2%}")
    published = ", ".join(f"{name} {share} %" for name, share in PAPER.items())
    print(f"Petersen et al. 2024, hard, all 50,000 training images: {published}")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, or go on, and print."""
    parser = argparse.ArgumentParser("python -m memviz.demos.gates.cifar10")
    parser.add_argument("folder", help="folder of CIFAR-10, or of a part of it")
    parser.add_argument("--out", required=True, help="folder that keeps the training")
    parser.add_argument("--size", default="S", help="S, M, B, L, G, or kernels of the first layer")
    parser.add_argument("--minutes", type=float, default=60.0, help="CPU minutes in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(argv)
    size = int(given.size) if given.size.isdigit() else given.size
    report(
        given.folder,
        given.out,
        size=size,
        minutes=given.minutes,
        seed=given.seed,
        device=given.device,
    )


if __name__ == "__main__":
    main()
