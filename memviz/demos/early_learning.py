"""The digits with 40 % random labels: what cross-entropy memorizes and ELR does not.

Recipe. Of 1,200 training digits 40 % get a label drawn anew from all ten classes, so about 36 % are
wrong (the symmetric noise of Liu et al. 2020). Of the other 597 digits, 197 get the same noise and
validate the stopping epoch, and 400 are for testing. An MLP 64-512-512-10 is trained for 150
epochs: SGD with momentum 0.9, batches of 64, cosine learning rate from 0.05, no weight decay, no
augmentation; once for each loss of ``METHODS``, from the same initial weights.

``python -m memviz.demos.early_learning`` prints what three seeds give, and trains what is not
stored, about 11 s a run; ``python -m memviz.demos.early_learning train`` trains what ships again.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from memviz.demos import digits
from memviz.models.mlp import MLP
from memviz.probes.early_learning import Fractions, detected_as_wrong, three_way
from memviz.scores import Scores
from memviz.study import Study
from memviz.training.early_learning import (
    ELR,
    GCE,
    Bootstrap,
    ForwardCorrection,
    SymmetricCrossEntropy,
    stopping_epoch,
    symmetric_transition,
)
from memviz.training.loop import predict, train

from . import _weight_files as weight_files
from ._kept import Kept, announce, folder_to_prepare, warn_not_kept

RECIPE = "early-learning-1"  # Change it with any setting below: other stored files are refused.
REDRAWN, VALIDATION = 0.4, 197
WIDTHS = (64, 512, 512, 10)
EPOCHS, BATCH_SIZE, LEARNING_RATE = 150, 64, 0.05
TRAINING_SECONDS = 11  # On two cores; printed before a training starts.
IMAGES, CLASSES = 1797, digits.CLASSES

METHODS: dict[str, Callable[[], nn.Module]] = {
    # Weight 0 makes it cross-entropy; its targets are then the null of ELR's.
    "CE": lambda: ELR(IMAGES, CLASSES, weight=0.0, beta=0.7),
    "ELR": lambda: ELR(IMAGES, CLASSES, weight=3.0, beta=0.7),
    "ELR, beta 0": lambda: ELR(IMAGES, CLASSES, weight=3.0, beta=0.0),
    "bootstrap": lambda: Bootstrap(0.8),
    "forward": lambda: ForwardCorrection(symmetric_transition(CLASSES, REDRAWN)),
    "GCE": lambda: GCE(0.7),
    "SL": lambda: SymmetricCrossEntropy(0.1, 1.0),
}
SHIPPED_SEEDS, SHIPPED_METHODS = (0, 1, 2), tuple(METHODS)[:3]
SHIPPED_RECORDS = [(seed, method) for seed in SHIPPED_SEEDS for method in SHIPPED_METHODS]
SHIPPED_NETWORKS = {(0, "CE"): (10, 150), (0, "ELR"): (150,)}
FIGURES: tuple[str, ...] = ("peak epoch", "true at the peak", "true at the end", "memorized")
FIGURES += ("clean right", "test", "test at the stopping epoch")
CHECKPOINT_EPOCHS = (10, 30, 60, 150)  # and 0, drawn anew from the seed
MINUTES = len(METHODS) * TRAINING_SECONDS / 60  # To prepare one seed on two cores.


def examples(seed: int = 0) -> digits.Digits:
    """Images, labels and groups of a seed: memorized (wrong label), clean, validation, test.

    ``memorized`` are all training images with a wrong label, whether a network memorizes them or
    not. Validation images, some with wrong labels, and test images are not trained on.

    Examples
    --------
    >>> {name: int(mask.sum()) for name, mask in examples(seed=0).groups.items()}
    {'memorized': 429, 'clean': 771, 'validation': 197, 'test': 400}
    """
    drawn = digits.examples(seed)
    draw = np.random.RandomState([int(seed), 40])
    labels, rows = drawn.true_labels.clone(), torch.arange(IMAGES)
    parts = {"training": rows < digits.TRAINING, "test": rows >= IMAGES - 400}
    parts["validation"] = ~parts["training"] & ~parts["test"]
    for part in (parts["training"], parts["validation"]):
        shuffled = rows[part][torch.from_numpy(draw.permutation(int(part.sum())))]
        redrawn = shuffled[: round(REDRAWN * len(shuffled))]
        labels[redrawn] = torch.from_numpy(draw.randint(0, CLASSES, len(redrawn)))
    wrong = labels != drawn.true_labels
    groups = {
        "memorized": parts["training"] & wrong,
        "clean": parts["training"] & ~wrong,
        "validation": parts["validation"],
        "test": parts["test"],
    }
    return digits.Digits(drawn.inputs, labels, drawn.true_labels, groups)


def load(seed: int = 0, method: str = "CE") -> Study:
    """The ready study of a seed, trained with one of ``METHODS``.

    Seed 0 with CE and ELR comes with the package; another is trained on first use, about ten
    seconds on two cores, and kept in the cache folder, with more checkpoints.

    Raises
    ------
    ValueError : the seed is not a whole number from 0 up, the method is unknown, or what ships is
        damaged.

    Examples
    --------
    >>> study = load(seed=0, method="ELR")
    >>> study.group("memorized").shape
    torch.Size([429])
    """
    data, model = examples(seed), MLP(WIDTHS, seed=int(seed))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    checkpoints: dict[int, Mapping[str, Tensor]] = {0: start}
    epochs = SHIPPED_NETWORKS.get((seed, method), CHECKPOINT_EPOCHS)
    for epoch, state in zip(epochs, _parts(seed, method, map(_epoch, epochs)), strict=True):
        checkpoints[epoch] = state
    model.load_state_dict(checkpoints[EPOCHS])
    return Study(
        model.eval(),
        data.inputs,
        data.labels,
        data.groups,
        true_labels=data.true_labels,
        class_names=[str(digit) for digit in range(CLASSES)],
        name=f"early learning, {method}",
        summary=f"MLP trained with {method} · {digits.TRAINING:,} training images, "
        f"{int(data.groups['memorized'].sum())} with wrong labels",
        checkpoints=checkpoints,
        origin=f"memviz.demos.early_learning.load(seed={seed}, method={method!r})",
    )


def predictions(seed: int = 0, method: str = "CE") -> Tensor:
    """Predicted class of every image after each epoch, int64 ``[150, 1797]``.

    Seeds 0, 1 and 2 with CE, ELR and ELR with beta 0 ship with the package.
    """
    (record,) = _parts(seed, method, ["record"])
    return _unpacked(record["predictions"])


def fractions(seed: int = 0, method: str = "ELR") -> Fractions:
    """The three-way fractions over the training images, with those of cross-entropy as null.

    Examples
    --------
    >>> bool(fractions(0, "ELR").wrong[-1, 1] < 0.2 < fractions(0, "ELR").null.wrong[-1, 1])
    True
    """
    data = examples(seed)
    null = None if method == "CE" else predictions(seed, "CE")
    trained_on = torch.arange(digits.TRAINING)
    return three_way(
        predictions(seed, method), data.labels, data.true_labels, trained_on, null=null
    )


def detected(seed: int = 0) -> Scores:
    """Which training images ELR's targets flag as wrongly labelled, with CE's targets as null."""
    data, trained_on = examples(seed), torch.arange(digits.TRAINING)
    own, null = (_parts(seed, method, ["record"])[0]["targets"] for method in ("ELR", "CE"))
    labels = data.labels[trained_on]
    return detected_as_wrong(own, labels, null_targets=null)


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train from the recipe and write what ships; returns its folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    seeds, new = list(seeds), dict[tuple[int, str], Tensor]()
    for seed, method in product(seeds, SHIPPED_METHODS):
        made, data = _fit(seed, method), examples(seed)
        new[seed, method] = _unpacked(made["record"]["predictions"])
        _kept(seed, method, "record").write("record", made["record"], target, half=True)
        for epoch in SHIPPED_NETWORKS.get((seed, method), ()):
            model = MLP(WIDTHS)
            model.load_state_dict(made[_epoch(epoch)])
            _kept(seed, method, _epoch(epoch)).write_network(
                _epoch(epoch), model, partial(predict, inputs=data.inputs), target
            )
        print(f"early learning, seed {seed}, {method}: written to {target}")
    for seed in seeds:
        write_summaries(seed, target, {m: new[seed, m] for m in SHIPPED_METHODS})
    return target


def summary(seed: int, method: str) -> dict[str, float]:
    """The figures of one run: fractions of the wrong labels, and accuracy on the test images.

    ``test at the stopping epoch`` stops early by accuracy on the noisy validation labels. Those of
    seeds 0, 1 and 2 come with the package, for every method.

    Examples
    --------
    >>> summary(0, "GCE")["memorized"] < summary(0, "CE")["memorized"]
    True
    """
    _check(method)
    kept = _summaries(seed).read("summaries") if seed in SHIPPED_SEEDS else None
    if kept is None:
        return _measured(seed, predictions(seed, method))
    row = kept["figures"][list(METHODS).index(method)].tolist()
    return dict(zip(FIGURES, row, strict=True))


def _measured(seed: int, predicted: Tensor) -> dict[str, float]:
    """A summary measured on what was predicted after each epoch, int64 ``[150, 1797]``."""
    data, trained_on = examples(seed), torch.arange(digits.TRAINING)
    parts = three_way(predicted, data.labels, data.true_labels, trained_on)
    test = (predicted == data.true_labels)[:, data.groups["test"]].float().mean(1)
    validation = (predicted == data.labels)[:, data.groups["validation"]].float().mean(1)
    figures = (
        parts.peak,
        parts.wrong[parts.peak - 1, 0],
        parts.wrong[-1, 0],
        parts.wrong[-1, 1],
        parts.clean[-1, 0],
        test[-1].item(),
        test[stopping_epoch(validation) - 1].item(),
    )
    return dict(zip(FIGURES, map(float, figures), strict=True))


def write_summaries(seed: int, folder: Path, new: Mapping[str, Tensor]) -> None:
    """Measure every method on a seed and write the figures.

    ``new`` are the predictions, by method, of the networks just trained; those of other methods
    are read, or trained if they are not stored.
    """
    rows = []
    for method in METHODS:
        predicted = new[method] if method in new else predictions(seed, method)
        rows.append(list(_measured(seed, predicted).values()))
    figures = torch.tensor(rows, dtype=torch.float64)
    _summaries(seed).write("summaries", {"figures": figures}, folder)


def _summaries(seed: int) -> Kept:
    facts = {"recipe": RECIPE, "seed": str(seed), "methods": ", ".join(METHODS)}
    return Kept(f"early-learning-seed{seed}", facts, seed in SHIPPED_SEEDS)


def main(arguments: list[str]) -> None:
    """Print each method's figures and what ELR detects: mean and range over three seeds."""
    if arguments == ["train"]:
        prepare()
    seeds = (0, 1, 2)
    for method in METHODS:
        print(method)
        rows = [summary(seed, method) for seed in seeds]
        for name in rows[0]:
            print(f"  {name:<28}{_spread([row[name] for row in rows])}")
    detections, null_detections, false_alarms = [], [], []
    for seed in seeds:
        scores, data = detected(seed), examples(seed)
        wrong = data.groups["memorized"][: digits.TRAINING].numpy()
        assert scores.null is not None
        detections.append((scores.values > 0)[wrong].mean())
        false_alarms.append((scores.values > 0)[~wrong].mean())
        null_detections.append((scores.null.values[0] > 0)[wrong].mean())
    print("wrong labels detected by ELR's targets")
    print(f"  {'found':<28}{_spread(detections)}")
    print(f"  {'false alarms':<28}{_spread(false_alarms)}")
    print(f"  {'found by the targets of CE':<28}{_spread(null_detections)}")


def _spread(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}  ({min(values):.3f} to {max(values):.3f})"


def _epoch(epoch: int) -> str:
    return f"epoch{epoch:03d}"


def _kept(seed: int, method: str, part: str) -> Kept:
    shipped = (
        (seed, method) in SHIPPED_RECORDS
        if part == "record"
        else part in map(_epoch, SHIPPED_NETWORKS.get((seed, method), ()))
    )
    name = method.lower().replace(", ", "-").replace(" ", "-")
    facts = {"recipe": RECIPE, "seed": str(seed), "method": method}
    return Kept(f"early-learning-seed{seed}-{name}", facts, shipped)


def _parts(seed: int, method: str, parts: Iterable[str]) -> list[Mapping[str, Tensor]]:
    """Parts of a run: shipped, from the cache folder, or trained now and stored there."""
    _check(method)
    parts = list(parts)
    stored: list[Mapping[str, Tensor] | None] = []
    stored += [_kept(seed, method, part).read(part) for part in parts]
    if any(state is None for state in stored):
        folder = weight_files.cache_folder()
        announce(
            f"Training the digits with random labels and {method} for seed {seed}: about "
            f"{TRAINING_SECONDS} s on two cores, once; the weights are kept in {folder}."
        )
        trained = _fit(seed, method)
        try:
            for part, state in trained.items():
                _kept(seed, method, part).write(part, state, folder)
        except OSError as error:
            warn_not_kept(error)
        stored = [trained[part] for part in parts]
    return [state for state in stored if state is not None]


def _check(method: str) -> None:
    if method not in METHODS:
        known = ", ".join(repr(name) for name in METHODS)
        raise ValueError(f"there is no method {method!r}; choose from {known}.")


def _fit(seed: int, method: str) -> dict[str, Mapping[str, Tensor]]:
    """Train one run; returns its record and its checkpoints by part."""
    data, model, loss = examples(seed), MLP(WIDTHS, seed=int(seed)), METHODS[method]()
    run = train(
        model,
        data.inputs,
        data.labels,
        examples=torch.arange(digits.TRAINING),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        seed=int(seed),
        loss=loss,
        checkpoint_epochs=CHECKPOINT_EPOCHS,
    )
    record = {"predictions": _packed(run.predictions)}
    if isinstance(loss, ELR):
        record["targets"] = loss.targets[: digits.TRAINING]
    return {
        "record": record,
        **{_epoch(epoch): run.checkpoints[epoch] for epoch in CHECKPOINT_EPOCHS},
    }


def _packed(classes: Tensor) -> Tensor:
    """Classes ``[150, 1797]`` as compressed bytes; few of them change from epoch to epoch."""
    table = classes.to(torch.int8).numpy().T  # the epochs of an image side by side compress best
    return torch.frombuffer(bytearray(zlib.compress(table.tobytes(), 9)), dtype=torch.uint8)


def _unpacked(content: Tensor) -> Tensor:
    table = np.frombuffer(zlib.decompress(content.numpy().tobytes()), np.int8)
    return torch.from_numpy(table.reshape(IMAGES, EPOCHS).T.astype(np.int64))


if __name__ == "__main__":
    main(sys.argv[1:])
