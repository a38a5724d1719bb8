"""What the encoders demo measures, and its figures of three seeds."""

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
FITTED = 500  # images that the linear probe is fitted on; neither encoder has seen them


def layers(encoders: Encoders, *, unit_norm: bool = True) -> LayerMem:
    """LayerMem of a pair on its four subsets, with 20 views an image."""
    if encoders.reference is None:
        raise ValueError("the supervised network has no reference; load simclr or masked.")
    return layer_mem(encoders.target, encoders.reference, encoders.images, encoders.augment,
                     encoders.subsets, augmentations=VIEWS, unit_norm=unit_norm)  # fmt: skip


def lengths(encoders: Encoders) -> dict[str, float]:
    """Length of the target's features as a multiple of the reference's, by subset.

    Of the last layer, mean over a subset's images, one view each. It is what turns the sign of
    LayerMem on raw features.
    """
    if encoders.reference is None:
        raise ValueError("the supervised network has no reference; load simclr or masked.")
    view = encoders.augment(encoders.images, torch.Generator().manual_seed(encoders.seed))
    f, g = (
        PathFeatures(one, view)(view)[LAYERS[-1]].norm(dim=1)
        for one in (encoders.target, encoders.reference)
    )
    return {name: float((f / g)[rows].mean()) for name, rows in encoders.subsets.named().items()}


def units(encoders: Encoders) -> dict[str, list[float]]:
    """Mean UnitMem and ClassMem of each layer, with the nulls of UnitMem.

    Of the target on its own 150 images; ``random weights`` with calibrated batch norm on the same
    images, ``held out`` on 150 images it never saw. UnitMem over 10 augmentations.
    """
    study = encoders.study()
    held_out = study.group("test")[: len(training_examples(study))]
    found = unit_mem(study, LAYERS, encoders.augment, held_out=held_out, seed=encoders.seed)
    classes = class_mem(study, LAYERS)
    assert found.units is not None and found.null is not None and found.held_out is not None
    assert classes.null is not None
    rows = {"UnitMem": found.values, "ClassMem": classes.values, "UnitMem held out": found.held_out,
            "UnitMem random weights": found.null.mean,
            "ClassMem shuffled labels": classes.null.mean}  # fmt: skip
    of = np.array([unit.layer for unit in found.units])
    table = {
        name: [float(np.nanmean(values[of == layer])) for layer in LAYERS]
        for name, values in rows.items()
    }
    table["share with UnitMem above ClassMem"] = [
        float(np.mean((found.values > classes.values)[of == layer])) for layer in LAYERS
    ]
    return table


def probe(encoders: Encoders) -> ProbeAccuracy:
    """A linear probe on digits that neither encoder saw: 500 to fit it, the rest to test it."""
    study = encoders.study()
    examples = study.group("test")
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(encoders.seed))
    first, rest = examples[order[:FITTED]], examples[order[FITTED:]]
    images = study.inputs
    assert isinstance(images, torch.Tensor)
    return ProbeAccuracy(images[first], study.labels[first], images[rest], study.labels[rest])


def pruned(encoders: Encoders, shares: tuple[float, ...] = SHARES) -> Pruning:
    """Linear-probe accuracy of the target without shares of each layer's units, by UnitMem."""
    study = encoders.study()
    found = unit_mem(study, LAYERS, encoders.augment, random_networks=0, seed=encoders.seed)
    return prune(study, found, probe(encoders), shares, draws=10, seed=encoders.seed)


def ordered(found: LayerMem) -> list[bool]:
    """For each pair, whether the last point has S_C above S_S and S_E, and both above S_I."""
    last = {name: values[:, -1] for name, values in found.values.items()}
    middle = np.stack([last["S_S"], last["S_E"]])
    right = (last["S_C"] > middle.max(0)) & (middle.min(0) > last["S_I"])
    return [bool(one) for one in right]


def print_figures(seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Print LayerMem, UnitMem against ClassMem, and pruning, with their nulls and spread."""
    print(f"seeds {', '.join(map(str, seeds))}; mean (least to largest over seeds)")
    frameworks: tuple[How, ...] = ("simclr", "masked")
    for how in frameworks:
        every = [load(seed, how) for seed in seeds]
        for unit_norm in (True, False):
            found = pooled([layers(one, unit_norm=unit_norm) for one in every])
            print_layers(f"{how}, {'features of length 1' if unit_norm else 'raw'}", found)
        ratios = [lengths(one) for one in every]
        print("  length of the last layer's features, f's as a multiple of g's:")
        print("    " + "  ".join(f"{n} {_spread([r[n] for r in ratios])}" for n in ratios[0]))
    kinds: tuple[How, ...] = ("simclr", "supervised")
    for how in kinds:
        tables = [units(load(seed, how)) for seed in seeds]
        print(f"\n{how}: layers {', '.join(LAYERS)}")
        for name in tables[0]:
            print(f"  {name:<34}" + "  ".join(_spread([t[name][k] for t in tables])
                                             for k in range(len(LAYERS))))  # fmt: skip
    print_pruning([pruned(load(seed)) for seed in seeds])


def print_layers(title: str, found: LayerMem) -> None:
    """LayerMem of each subset, Delta of the candidates, and the gaps, along the path."""
    right = ordered(found)
    print(f"\nLayerMem, {title}: {', '.join(found.names)}")
    for name, values in found.values.items():
        print(f"  {name:<10}" + "  ".join(_spread(column) for column in values.T))
    steps = ["at the start" if np.isnan(one) else f"{one:+.4f}" for one in found.delta()]
    print(f"  {'Delta S_C':<10}" + "  ".join(steps))
    gap = np.stack([found.gap(name) for name in found.values if name != "S_C"]).mean(0)
    print(f"  {'gap':<10}" + "  ".join(_spread(column) for column in gap.T))
    print(f"  S_C > {{S_S, S_E}} > S_I at the last layer: {sum(right)} of {len(right)} seeds")
    print("  the last layer of each seed, with the standard error over images:")
    for k in range(found.pairs):
        print("    " + "  ".join(f"{name} {values[k, -1]:+.4f} ± {found.errors[name][k, -1]:.4f}"
                                 for name, values in found.values.items()))  # fmt: skip


def print_pruning(found: Sequence[Pruning]) -> None:
    """Accuracy without units of highest, any and lowest score."""
    print("\nlinear probe without a share of each layer's units, by UnitMem")
    print(f"  {'none':<12}{_spread([one.accuracy('none') for one in found])}")
    for share in dict.fromkeys(found[0].frame["share"][1:]):
        for choice in ("top", "random", "low"):
            values = [one.accuracy(choice, share) for one in found]
            print(f"  {choice:<7}{share:.0%}  {_spread(values)}")
        lost = [[one.accuracy(c, share) for c in ("top", "random", "low")] for one in found]
        below, above = sum(t < r for t, r, _ in lost), sum(low > r for _, r, low in lost)
        print(f"    top below random in {below}, low above it in {above} of {len(lost)}")


def _spread(values: Sequence[float] | np.ndarray) -> str:
    return f"{np.mean(values):+.4f} ({np.min(values):+.4f} to {np.max(values):+.4f})"
