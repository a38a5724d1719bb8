"""Human label errors in CIFAR-10: where a ResNet-9 memorizes them.

``python -m memviz.demos.cifar10n --data FOLDER --labels FILE`` trains a ResNet-9 on the first
images of CIFAR-10 with labels given by people (CIFAR-10N, Wei et al. 2022); those that differ from
the true label are the memorized group. It prints gradient accounting over a few epochs, layer
rewinding and layer retraining (Maini et al. 2023). Nothing is downloaded; see
``memviz.data.loaders`` for the files. The training is saved in ``--folder`` and resumed from there.

SGD with momentum 0.9, weight decay 5e-4, cosine learning rate from 0.1, no augmentation, as in the
paper, but batches of 64, since there are few images. Matrix products are in bfloat16.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from memviz.data.loaders import CIFAR10_CLASSES, CIFAR10N_KINDS, load_cifar10, load_cifar10n
from memviz.models.resnet9 import ResNet9
from memviz.probes.localization import (
    RetrainingSettings,
    Rewinder,
    gradient_accounting,
    layer_retraining,
    layer_rewinding,
)
from memviz.study import Study
from memviz.training.loop import train

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 64, 0.1, 5e-4
RETRAINING_EPOCHS = 5
READ_ON = 400  # examples per group that rewinding is evaluated on
IMAGES_A_MINUTE = 3000  # On one core; the estimate printed before the training starts.


class HalfResNet9(ResNet9):
    """ResNet-9 with matrix products in bfloat16, weights and logits in float32."""

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[n, in_channels, h, w]`` to logits ``[n, classes]``."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return super().forward(images).float()


def load(
    data: str | Path,
    labels: str | Path,
    *,
    kind: str = "aggre",
    examples: int = 2500,
    test: int = 1000,
    epochs: int = 20,
    seed: int = 0,
    device: str = "cpu",
    folder: str | Path | None = None,
) -> Study:
    """Train a ResNet-9 on the first examples with their human labels; a study with checkpoints.

    Parameters
    ----------
    data, labels : path
        Of ``load_cifar10`` and ``load_cifar10n``.
    kind : str
        Which human labels.
    examples, test : int
        Training and test images, from the first on.
    folder : path, optional
        Keeps the training, so that it can be interrupted.
    """
    cifar, human = load_cifar10(data), load_cifar10n(labels, kind)
    if not 0 < examples <= min(len(cifar.labels), len(human)) or test > len(cifar.test_labels):
        raise ValueError(
            f"{examples} training and {test} test images were asked for; there are "
            f"{min(len(cifar.labels), len(human))} with human labels and {len(cifar.test_labels)}."
        )
    inputs = torch.cat([cifar.inputs()[:examples], cifar.inputs(test=True)[:test]]).to(device)
    true = torch.cat([cifar.labels[:examples], cifar.test_labels[:test]])
    given = torch.cat([human[:examples], cifar.test_labels[:test]])
    model = HalfResNet9(seed=seed).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = train(
        model,
        inputs[:examples],
        given[:examples].to(device),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        seed=seed,
        checkpoint_epochs=range(epochs + 1),
        folder=folder,
    )
    is_test = torch.arange(len(true)) >= examples
    return Study(
        model.eval(),
        inputs,
        given,
        {"memorized": given != true, "clean": (given == true) & ~is_test, "test": is_test},
        true_labels=true,
        class_names=list(CIFAR10_CLASSES),
        name=f"CIFAR-10N {kind}",
        summary=f"ResNet-9 · {examples:,} training images, {epochs} epochs",
        checkpoints=run.checkpoints,
    )


def report(study: Study, epochs: Sequence[int], retrain: Sequence[str] = (), seed: int = 0) -> None:
    """Print gradient accounting over the epoch after each of these, rewinding, and retraining."""
    accuracy = Rewinder(study).accuracies({})
    shares = ", ".join(f"{name} {share:.3f}" for name, share in accuracy.items())
    print(f"{study!r}\naccuracy: {shares}")
    frames = [_accounting(study, epoch, seed) for epoch in epochs]
    means = sum(frames[1:], frames[0]) / len(frames)
    means["ratio"] = means["noisy"] / means["clean"]
    means["null_ratio"] = means["null_noisy"] / means["null_clean"]
    shown = means[["ratio", "cosine", "null_ratio", "null_cosine"]].round(3).to_string()
    print(f"\naccounting, mean of the epochs after {', '.join(map(str, epochs))}:\n{shown}")
    read = torch.cat([study.group(name)[:READ_ON] for name in study.groups])
    rewound = layer_rewinding(study, epochs=[0, *epochs[:2]], examples=read)
    for epoch in rewound.epochs:
        for buffers in (False, True):
            what = "parameters and statistics" if buffers else "parameters"
            table = rewound.at(epoch, buffers=buffers).round(3).to_string()
            print(f"\nrewinding of {what} to epoch {epoch}: accuracy\n{table}")
    if retrain:
        settings = RetrainingSettings(batch_size=BATCH_SIZE, epochs=RETRAINING_EPOCHS, seed=seed)
        print(f"\n{layer_retraining(study, only=retrain, settings=settings)}")


def _accounting(study: Study, epoch: int, seed: int) -> pd.DataFrame:
    """One row per layer: the epoch after a checkpoint, run again at its learning rate."""
    import pandas as pd

    last = max(study.checkpoints)
    rate = LEARNING_RATE * (1 + math.cos(math.pi * (epoch + 0.5) / last)) / 2

    def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=WEIGHT_DECAY)

    result = gradient_accounting(
        study, epochs=[epoch], optimizer=sgd, batch_size=BATCH_SIZE, null_draws=1, seed=seed
    )
    columns = {"clean": result.clean[0], "noisy": result.noisy[0], "cosine": result.cosine[0]}
    columns |= {"null_clean": result.null_clean[0, 0], "null_noisy": result.null_noisy[0, 0]}
    columns |= {"null_cosine": result.null_cosine[0, 0]}
    return pd.DataFrame(columns, index=pd.Index(result.layers, name="layer"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how long it takes, train and report."""
    parser = argparse.ArgumentParser(prog="python -m memviz.demos.cifar10n")
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument("--labels", required=True, help="CIFAR-10_human.pt, or an .npz of it")
    parser.add_argument("--kind", choices=CIFAR10N_KINDS, default="aggre")
    parser.add_argument("--examples", type=int, default=2500)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--at", type=int, nargs="+", default=[2, 6, 10, 14], help="epochs to look at"
    )
    parser.add_argument(
        "--retrain", nargs="*", default=[], help="layers to train again, 5 min each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", help="where to save the training, to resume it")
    given = parser.parse_args(arguments)
    images = given.examples * (given.epochs + 3 * len(given.at))
    print(f"On one CPU core this takes about {images / IMAGES_A_MINUTE:.0f} minutes.")
    started = time.perf_counter()
    study = load(
        given.data,
        given.labels,
        kind=given.kind,
        examples=given.examples,
        test=given.test,
        epochs=given.epochs,
        seed=given.seed,
        device=given.device,
        folder=given.folder,
    )
    report(study, given.at, given.retrain, given.seed)
    print(f"\n{(time.perf_counter() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
