"""Measures of memorization in the encoders demo, and their figures over three seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from memviz.probes.encoders import ProbeAccuracy, training_examples
from memviz.probes.encoders.experiments import Pruning, prune
from memviz.probes.encoders.layers import LayerMem, PathFeatures, layer_mem, pooled
from memviz.probes.encoders.units import class_mem, unit_mem

from ._recipe import LAYERS, Encoders, How, load

VIEWS = 20
SHARES = (0.1, 0.2, 0.4)
FITTED = 500  # images to fit the linear probe on; neither encoder has seen them


def layers(encoders: Encoders, *, unit_norm: bool = True) -> LayerMem:
    """LayerMem of a pair on its four subsets, with 20 views per image."""
    if encoders.reference is None:
        raise ValueError("the supervised network has no reference; load simclr or masked.")
    return layer_mem(encoders.target, encoders.reference, encoders.images, encoders.augment,
                     encoders.subsets, augmentations=VIEWS, unit_norm=unit_norm)  # fmt: skip


def lengths(encoders: Encoders) -> dict[str, float]:
    """Ratio of the target's feature norm to the reference's, by subset.

    Of the last layer, mean over a subset's images, one view each. This ratio decides the sign of
    LayerMem on raw features.
    """
    if encoders.reference is None:
        raise ValueError("the supervised network has no reference; load simclr or masked.")
    view = encoders.augment(encoders.images, torch.Generator().manual_seed(encoders.seed))
    f, g = (
        PathFeatures(encoder, view)(view)[LAYERS[-1]].norm(dim=1)
        for encoder in (encoders.target, encoders.reference)
    )
    return {name: float((f / g)[rows].mean()) for name, rows in encoders.subsets.named().items()}


def units(encoders: Encoders) -> dict[str, list[float]]:
    """Mean UnitMem and ClassMem of each layer, with their nulls.

    Of the target on its 150 training images; ``random weights`` (with calibrated batch norm) on
    the same images, ``held out`` on 150 images it never saw. UnitMem over 10 augmentations.
    """
    study = encoders.study()
    held_out = study.group("test")[: len(training_examples(study))]
    unit_scores = unit_mem(study, LAYERS, encoders.augment, held_out=held_out, seed=encoders.seed)
    classes = class_mem(study, LAYERS)
    assert unit_scores.units is not None and unit_scores.null is not None
    assert unit_scores.held_out is not None and classes.null is not None
    rows = {"UnitMem": unit_scores.values, "ClassMem": classes.values,
            "UnitMem held out": unit_scores.held_out,
            "UnitMem random weights": unit_scores.null.mean,
            "ClassMem shuffled labels": classes.null.mean}  # fmt: skip
    layer_of = np.array([unit.layer for unit in unit_scores.units])
    table = {
        name: [float(np.nanmean(values[layer_of == layer])) for layer in LAYERS]
        for name, values in rows.items()
    }
    table["share with UnitMem above ClassMem"] = [
        float(np.mean((unit_scores.values > classes.values)[layer_of == layer])) for layer in LAYERS
    ]
    return table


def probe(encoders: Encoders) -> ProbeAccuracy:
    """A linear probe on digits that neither encoder has seen: 500 to fit, the rest to test."""
    study = encoders.study()
    examples = study.group("test")
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(encoders.seed))
    first, rest = examples[order[:FITTED]], examples[order[FITTED:]]
    images = study.inputs
    assert isinstance(images, torch.Tensor)
    return ProbeAccuracy(images[first], study.labels[first], images[rest], study.labels[rest])


def pruned(encoders: Encoders, shares: tuple[float, ...] = SHARES) -> Pruning:
    """Linear-probe accuracy of the target with shares of each layer's units pruned, by UnitMem."""
    study = encoders.study()
    scores = unit_mem(study, LAYERS, encoders.augment, random_networks=0, seed=encoders.seed)
    return prune(study, scores, probe(encoders), shares, draws=10, seed=encoders.seed)


def ordered(result: LayerMem) -> list[bool]:
    """For each pair, whether the last point has S_C above S_S and S_E, and both above S_I."""
    last = {name: values[:, -1] for name, values in result.values.items()}
    middle = np.stack([last["S_S"], last["S_E"]])
    right = (last["S_C"] > middle.max(0)) & (middle.min(0) > last["S_I"])
    return [bool(pair) for pair in right]


def print_figures(seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Print LayerMem, UnitMem against ClassMem, and pruning, with nulls and spread."""
    print(f"seeds {', '.join(map(str, seeds))}; mean (lowest to highest over seeds)")
    frameworks: tuple[How, ...] = ("simclr", "masked")
    for how in frameworks:
        pairs = [load(seed, how) for seed in seeds]
        for unit_norm in (True, False):
            result = pooled([layers(pair, unit_norm=unit_norm) for pair in pairs])
            print_layers(f"{how}, {'features of length 1' if unit_norm else 'raw'}", result)
        ratios = [lengths(pair) for pair in pairs]
        print("  norm of the last layer's features, ratio of f to g:")
        print("    " + "  ".join(f"{n} {_spread([r[n] for r in ratios])}" for n in ratios[0]))
    kinds: tuple[How, ...] = ("simclr", "supervised")
    for how in kinds:
        tables = [units(load(seed, how)) for seed in seeds]
        print(f"\n{how}: layers {', '.join(LAYERS)}")
        for name in tables[0]:
            print(f"  {name:<34}" + "  ".join(_spread([t[name][k] for t in tables])
                                             for k in range(len(LAYERS))))  # fmt: skip
    print_pruning([pruned(load(seed)) for seed in seeds])


def print_layers(title: str, result: LayerMem) -> None:
    """LayerMem of each subset, Delta of the candidates, and the gaps, along the path."""
    right = ordered(result)
    print(f"\nLayerMem, {title}: {', '.join(result.names)}")
    for name, values in result.values.items():
        print(f"  {name:<10}" + "  ".join(_spread(column) for column in values.T))
    steps = ["at the start" if np.isnan(step) else f"{step:+.4f}" for step in result.delta()]
    print(f"  {'Delta S_C':<10}" + "  ".join(steps))
    gap = np.stack([result.gap(name) for name in result.values if name != "S_C"]).mean(0)
    print(f"  {'gap':<10}" + "  ".join(_spread(column) for column in gap.T))
    print(f"  S_C > {{S_S, S_E}} > S_I at the last layer: {sum(right)} of {len(right)} seeds")
    print("  the last layer of each seed, with the standard error over images:")
    for k in range(result.pairs):
        print("    " + "  ".join(f"{name} {values[k, -1]:+.4f} ± {result.errors[name][k, -1]:.4f}"
                                 for name, values in result.values.items()))  # fmt: skip


def print_pruning(results: Sequence[Pruning]) -> None:
    """Accuracy after pruning units of highest, random and lowest score."""
    print("\nlinear probe with a share of each layer's units pruned, by UnitMem")
    print(f"  {'none':<12}{_spread([pruning.accuracy('none') for pruning in results])}")
    for share in dict.fromkeys(results[0].frame["share"][1:]):
        for choice in ("top", "random", "low"):
            values = [pruning.accuracy(choice, share) for pruning in results]
            print(f"  {choice:<7}{share:.0%}  {_spread(values)}")
        choices = ("top", "random", "low")
        rows = [[pruning.accuracy(c, share) for c in choices] for pruning in results]
        below, above = sum(t < r for t, r, _ in rows), sum(low > r for _, r, low in rows)
        print(f"    top below random in {below}, low above it in {above} of {len(rows)}")


def _spread(values: Sequence[float] | np.ndarray) -> str:
    return f"{np.mean(values):+.4f} ({np.min(values):+.4f} to {np.max(values):+.4f})"
