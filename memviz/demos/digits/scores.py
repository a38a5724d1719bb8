"""Which digits are memorized: every example score of the digits, and how it finds wrong labels.

    python -m memviz.demos.digits.scores

trains what is missing (about eight minutes on one processor, resumable) and prints the tables. The
results of seed 0 ship with the package; ``scores`` and ``trainings`` load them.

Two networks. *convnet* is the study's own: scores come from its shipped checkpoints, or from one
more training if they need every epoch. *mlp* is a perceptron of 256 hidden units that trains in a
second, so that 300 of them can estimate Feldman and Zhang's memorization; its other scores come
from one training on all 1,200 images. Both are trained until they predict every given label.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from memviz.models.convnet import ConvNet
from memviz.models.mlp import MLP
from memviz.probes import examples as probes
from memviz.probes.examples import agreement, second_split_forgetting, split_half
from memviz.scores import Scores
from memviz.study import Study
from memviz.training.loop import train
from memviz.training.subsets import Recipe, SubsetTrainings, second_split, train_subsets

from .. import _weight_files as weight_files
from . import _study as digits
from ._score_file import read_scores, write_scores

if TYPE_CHECKING:
    import pandas as pd

Network = Literal["convnet", "mlp"]
NETWORKS: tuple[Network, ...] = get_args(Network)
RECIPE = "digit-scores-1"  # Change it with any setting below: other stored scores are refused.
SHIPPED = Path(__file__).parents[1] / "scores"
TRAININGS, FRACTION = 300, 0.7
MLP_WIDTHS = (64, 256, 10)
MLP_RECIPE = Recipe(partial(MLP, MLP_WIDTHS), epochs=120, batch_size=64, learning_rate=0.2)
CONVNET_RECIPE = Recipe(
    partial(ConvNet, digits.CHANNELS, digits.HIDDEN, digits.CLASSES),
    epochs=digits.EPOCHS,
    batch_size=digits.BATCH_SIZE,
    learning_rate=digits.LEARNING_RATE,
    weight_decay=digits.WEIGHT_DECAY,
)
SECOND_EPOCHS = 30
MLP_CHECKPOINTS = (0, 3, 6, *range(10, 121, 10))


def scores(network: Network = "convnet", seed: int = 0) -> list[Scores]:
    """The scores over the study's training images that ship with the package.

    Examples
    --------
    >>> [score.name for score in scores("mlp")][:2]
    ['memorization', 'cumulative sample loss']
    """
    stored = read_scores(_path(SHIPPED, seed, network), _about(network, seed))
    return [probes.subsampled_memorization(trainings(seed)), *stored]


def trainings(seed: int = 0) -> SubsetTrainings:
    """The 300 perceptrons trained on subsets of the training images, as shipped.

    Examples
    --------
    >>> trainings()
    SubsetTrainings(300 on 840 of 1,200 examples each)
    """
    return SubsetTrainings.load(_path(SHIPPED, seed, "trainings"))


def measure(
    seed: int = 0, folder: Path | None = None, jobs: int | None = None
) -> dict[Network, list[Scores]]:
    """Train what is missing, measure every score and write the files; resumable.

    Parameters
    ----------
    seed : int
    folder : Path, optional
        For unfinished trainings and the files; by default in the cache folder.
    jobs : int, optional
        joblib's ``n_jobs`` for the perceptrons.

    Returns
    -------
    dict
        Scores by network.
    """
    study = digits.load(seed)
    folder = _folder(seed, None) if folder is None else folder
    subsets = train_subsets(
        study,
        MLP_RECIPE,
        trainings=TRAININGS,
        fraction=FRACTION,
        seed=seed,
        folder=folder / "subsets",
        jobs=jobs,
    )
    subsets.save(_path(folder, seed, "trainings"))
    memorization = probes.subsampled_memorization(subsets)
    by_network = {}
    for network in NETWORKS:
        path, about = _path(folder, seed, network), _about(network, seed)
        if not path.is_file():
            write_scores(_of_one_training(study, network, seed, folder / network), path, about)
        by_network[network] = [memorization, *read_scores(path, about)]
    return by_network


def report(
    seed: int,
    subsets: SubsetTrainings,
    facts: dict[str, float],
    tables: dict[Network, pd.DataFrame],
) -> str:
    """The figures of one seed as text: memorization, then one table per network."""
    lines = [
        f"seed {seed}: {len(subsets)} perceptrons, each trained on {FRACTION:g} of the "
        f"{len(subsets.examples):,} training images",
        *(f"  {name:<44} {value:+.3f}" for name, value in facts.items()),
    ]
    for network, table in tables.items():
        lines += ["", f"seed {seed}, {network}", table.round(3).to_string()]
    return "\n".join(lines)


def memorization_facts(seed: int, known: Scores, subsets: SubsetTrainings) -> dict[str, float]:
    """Figures of Feldman and Zhang's memorization, by what they measure."""
    wrong = digits.examples(seed).groups["memorized"][subsets.examples]
    values = torch.from_numpy(known.values)
    facts = {
        "accuracy on what they were trained on": subsets.correct_inside[subsets.inside]
        .double()
        .mean(),
        "largest standard error": known.frame["standard_error"].max(),
    }
    for name, mask in (("wrong", wrong), ("clean", ~wrong)):
        facts[f"mean memorization, {name} labels"] = values[mask].mean()
        facts[f"share above .25, {name} labels"] = (values[mask] > 0.25).double().mean()
        if known.null is not None:
            facts[f"mean of the null, {name} labels"] = known.null.mean[mask.numpy()].mean()
    for name, mask in (("all", wrong | ~wrong), ("clean", ~wrong)):
        halves = split_half(subsets.inside, subsets.correct_inside, mask)
        facts[f"split-half rank correlation, {name}"] = halves.mean()
        facts[f"  its spread over 20 ways to halve, {name}"] = halves.std()
    return {name: float(value) for name, value in facts.items()}


def agreements(seed: int, by_network: dict[Network, list[Scores]]) -> dict[Network, pd.DataFrame]:
    """How well each score finds the wrong labels, by network."""
    study = digits.load(seed)
    return {
        network: agreement(study, all_scores, reference=all_scores[0].name)
        for network, all_scores in by_network.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing and print the figures; ``--ship`` writes the files of the package."""
    parser = argparse.ArgumentParser(
        "python -m memviz.demos.digits.scores", description="Which digits are memorized."
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, help="for unfinished trainings (default: the cache)")
    parser.add_argument("--jobs", type=int, help="processes, as joblib counts them (default: 1)")
    parser.add_argument("--shipped", action="store_true", help="print what ships, train nothing")
    parser.add_argument("--ship", action="store_true", help="write the files into the package")
    given = parser.parse_args(argv)
    facts: list[dict[str, float]] = []
    tables: list[dict[Network, pd.DataFrame]] = []
    for seed in given.seeds:
        folder = SHIPPED if given.shipped else _folder(seed, given.folder)
        if given.shipped:
            by_network = {network: scores(network, seed) for network in NETWORKS}
        else:
            by_network = measure(seed, folder, given.jobs)
        if given.ship:
            SHIPPED.mkdir(exist_ok=True)
            for name in ("trainings", *NETWORKS):
                copyfile(_path(folder, seed, name), _path(SHIPPED, seed, name))
        subsets = SubsetTrainings.load(_path(folder, seed, "trainings"))
        facts.append(memorization_facts(seed, by_network[NETWORKS[0]][0], subsets))
        tables.append(agreements(seed, by_network))
        print(report(seed, subsets, facts[-1], tables[-1]), "\n")
    if len(given.seeds) > 1:
        print(_summary(facts, tables))


def _summary(facts: list[dict[str, float]], tables: list[dict[Network, pd.DataFrame]]) -> str:
    """Mean and standard deviation over the seeds."""
    import pandas as pd

    lines = [f"{len(facts)} seeds: mean and standard deviation"]
    lines.append(pd.DataFrame(facts).agg(["mean", "std"]).T.round(3).to_string())
    for network in NETWORKS:
        by_score = pd.concat([table[network] for table in tables])[
            ["auroc", "rank correlation", "clean rank correlation"]
        ]
        grouped = by_score.groupby(level=0)
        table = grouped.mean().join(grouped.std().add_suffix(" ±"))
        lines += ["", network, table.sort_values("auroc", ascending=False).round(3).to_string()]
    return "\n".join(lines)


def _of_one_training(study: Study, network: Network, seed: int, folder: Path) -> list[Scores]:
    """All scores from one training of a network, and from a training on two splits."""
    training = study.groups["test"].logical_not().nonzero()[:, 0]
    inputs, labels = study.batch(training), study.labels[training]
    assert isinstance(inputs, Tensor)
    if network == "convnet":
        recipe, epochs = CONVNET_RECIPE, digits.CHECKPOINT_EPOCHS
        model: nn.Module = ConvNet(digits.CHANNELS, digits.HIDDEN, digits.CLASSES, seed=seed)
    else:
        recipe, epochs = MLP_RECIPE, MLP_CHECKPOINTS
        model = MLP(MLP_WIDTHS, seed=seed)
    run = train(
        model,
        inputs,
        labels,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        seed=seed,
        checkpoint_epochs=epochs,
        folder=folder,
    )
    if network == "mlp" or len(study.checkpoints) < 2:  # most seeds ship only the last one
        study = replace(study, model=model, checkpoints=run.checkpoints)
    rates = {e: float(run.learning_rates[e - 1]) for e in study.checkpoints if e > 0}
    forgotten = second_split(recipe, inputs, labels, epochs=SECOND_EPOCHS, seed=seed)
    return [
        *probes.scores_of_run(run, training),
        second_split_forgetting(forgotten, training),
        *probes.scores_of_checkpoints(study, training, learning_rates=rates),
    ]


def _folder(seed: int, folder: Path | None) -> Path:
    return (
        weight_files.cache_folder() / f"digit-scores-{seed}"
        if folder is None
        else folder / str(seed)
    )


def _path(folder: Path, seed: int, what: str) -> Path:
    return folder / f"digits-seed{seed}-{what}.safetensors"


def _about(network: Network, seed: int) -> str:
    return f"{RECIPE} {network} seed {seed}"


if __name__ == "__main__":
    main()
