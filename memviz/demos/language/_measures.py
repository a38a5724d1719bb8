"""What the models of a seed recite, and what the recitation costs to switch off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.engine.sets import ablate, random_units
from memviz.engine.sweep import sweep
from memviz.probes.extraction import Forecast, constant_rate, extract, forecast
from memviz.study import Study
from memviz.units import Layer, UnitSet

from .._kept import Kept, folder_to_prepare
from ._passages import CONTINUATION, COPIES, PROMPT, passages
from ._recipe import CHECKPOINT_EPOCHS, EPOCHS, LARGEST, RECIPE, SIZES, load, model_of

SEEDS = (0, 1, 2)
ABLATED = 64  # neurons, of 1,152
_DRAWS = 20  # of as many random neurons
_ABLATION = (
    "recited_before", "recited_after", "recited_random", "perplexity_ratio",
    "perplexity_ratio_random",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tables:
    """What was measured on the models of one seed.

    Attributes
    ----------
    copies, paragraphs : int64 ``[n]``
        As in :class:`Passages`.
    matched : mapping of model to uint8 ``[n]``
        Tokens of each continuation, of 32, that greedy decoding gives back at their places. The
        sizes, and earlier epochs of the largest one before it.
    ablation : mapping of name to float
        See :func:`ablation`.
    """

    copies: Tensor
    paragraphs: Tensor
    matched: Mapping[str, Tensor]
    ablation: Mapping[str, float]

    @property
    def recited(self) -> dict[str, np.ndarray]:
        """Whether each model gives back the whole continuation, bool ``[n]``."""
        return {name: (row == CONTINUATION).numpy() for name, row in self.matched.items()}


def tables(seed: int = 0) -> Tables:
    """What the models of a seed recite: shipped for seeds 0, 1 and 2, else measured now.

    Examples
    --------
    >>> list(tables(0).matched)
    ['small', 'medium', 'large, epoch 3', 'large, epoch 6', 'large, epoch 9', 'large']
    """
    stored = _kept(seed).read("tables") if seed in SEEDS else None
    return measure(seed) if stored is None else _read(stored)


def measure(seed: int) -> Tables:
    """Measure the models of a seed; those that are not stored are trained."""
    found, study = passages(seed), load(seed)
    matched = {}
    for name, (size, epoch) in _models().items():
        model = model_of(seed, size, epoch)
        said = extract(model, found.tokens, PROMPT, CONTINUATION, progress=False)
        matched[name] = said.matches.sum(1).to(torch.uint8)
    return Tables(found.copies, found.paragraphs, matched, ablation(study, found.copies))


def ablation(study: Study, copies: Tensor) -> dict[str, float]:
    """Ablate the 64 neurons that one half of the recited passages needs most; read the other half.

    Each neuron's mean margin drop on every second recited passage is measured, exactly. Nothing of
    the reported passages is used to choose. The null: as many random neurons in each layer, 20
    draws.

    Returns
    -------
    dict
        ``recited_before``, ``recited_after`` and ``recited_random``: share of the other half that
        is recited; ``perplexity_ratio`` and ``perplexity_ratio_random``: perplexity of the held-out
        passages, over that of the whole model.
    """
    chosen_from, reported = halves(study, copies)
    neurons = chosen_neurons(study, chosen_from)
    before = _reading(study, UnitSet({}), reported)
    after = _reading(study, neurons, reported)
    draws = [
        _reading(study, random_units(_up_layers(study), neurons, seed), reported)
        for seed in range(_DRAWS)
    ]
    random = np.mean([share for share, _ in draws])
    ratios = [math.exp(loss - before[1]) for _, loss in draws]
    values = (before[0], after[0], float(random), math.exp(after[1] - before[1]))
    return dict(zip(_ABLATION, (*values, float(np.mean(ratios))), strict=True))


def halves(study: Study, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Recited passages to choose units by, and those to report on: every second one, by copies."""
    recited = study.group("recited")
    ordered = recited[copies[recited].argsort(stable=True)]
    return ordered[::2], ordered[1::2]


def chosen_neurons(study: Study, examples: Tensor, count: int = ABLATED) -> UnitSet:
    """The neurons whose ablation, each alone, lowers the margin of these passages most.

    Every neuron is ablated, exactly. Estimates would not do: the margin is a minimum over
    positions, its gradient sees one of them, and neurons that an estimate puts far down are missed.
    """
    neurons = UnitSet({layer.name: range(layer.units) for layer in _up_layers(study)})
    effects = sweep(study, neurons, examples, progress=False)
    drop = -effects.margin_change.double().mean(1)
    order = drop.argsort(descending=True, stable=True)[:count].tolist()
    return UnitSet([effects.units[row] for row in order])


def _up_layers(study: Study) -> list[Layer]:
    blocks = [name for name, _ in study.model.named_modules() if name.endswith(".up")]
    sizes = [study.model.get_submodule(name).out_features for name in blocks]
    return [
        Layer(name, "linear", int(size), "linear > gelu")  # type: ignore[arg-type]
        for name, size in zip(blocks, sizes, strict=True)
    ]


@torch.no_grad()
def _reading(study: Study, units: UnitSet, reported: Tensor) -> tuple[float, float]:
    """Share of the reported passages that is recited, and the loss of held-out ones, nats."""
    held_out = study.group("held out")
    with ablate(study.model, units):
        outputs = [study.task.outputs(study.call(study.batch(x))()) for x in (reported, held_out)]
    margin = study.task.margin(outputs[0], study.labels[reported])
    loss = study.task.loss(outputs[1], study.labels[held_out])
    return float((margin > 0).double().mean()), float(loss.double().mean())


def figures(seeds: Iterable[int] = SEEDS) -> dict[str, Any]:
    """The figures of the demo, means over seeds, ready for JSON.

    ``recited`` and ``held_out`` are of the largest size; ``precision`` and ``recall`` are of
    smaller sizes and earlier epochs as forecasts of it, on the passages that all were trained on.
    Both are None where no seed's predictor recites anything. ``spike`` is the largest size's share
    of trained passages at exactly 1, and ``spike_by_chance`` what a constant rate per token gives.
    """
    found = [tables(seed) for seed in seeds]
    names = list(found[0].matched)
    by_size = {
        name: {str(level): _mean(_share(t, name, level) for t in found) for level in COPIES}
        for name in names
    }
    judged = {name: [_forecast(t, name) for t in found] for name in names if name != LARGEST}
    chances = [
        constant_rate(float(t.matched[LARGEST][t.copies > 0].double().mean()) / CONTINUATION, 32)
        for t in found
    ]
    return {
        "seeds": len(found),
        "recited": by_size[LARGEST],
        "held_out": _mean(_share(t, LARGEST, 0) for t in found),
        "precision": {name: _mean(f.precision for f in fs) for name, fs in judged.items()},
        "recall": {name: _mean(f.recall for f in fs) for name, fs in judged.items()},
        "ablation": {name: _mean(t.ablation[name] for t in found) for name in _ABLATION},
        "recited_by_model": by_size,
        "held_out_by_model": {name: _mean(_share(t, name, 0) for t in found) for name in names},
        "spike": _mean(t.recited[LARGEST][(t.copies > 0).numpy()].mean() for t in found),
        "spike_by_chance": _mean(chance[-1] for chance in chances),
        "by_seed": {"ablation": [dict(t.ablation) for t in found]},
    }


def prepare_tables(seeds: Iterable[int] = SEEDS, folder: str | Path | None = None) -> Path:
    """Measure the models of some seeds again and write the tables; returns the folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        write_tables(seed, measure(seed), target)
        print(f"language, seed {seed}, tables: written to {target}", flush=True)
    return target


def write_tables(seed: int, found: Tables, folder: Path) -> None:
    """Write the tables of a seed."""
    state = {
        "copies": found.copies,
        "paragraphs": found.paragraphs,
        "matched": torch.stack(list(found.matched.values())),
        "ablation": torch.tensor([found.ablation[name] for name in _ABLATION]).double(),
    }
    _kept(seed).write("tables", state, folder)


def _read(state: Mapping[str, Tensor]) -> Tables:
    return Tables(
        state["copies"],
        state["paragraphs"],
        dict(zip(_models(), state["matched"], strict=True)),
        dict(zip(_ABLATION, state["ablation"].tolist(), strict=True)),
    )


def _models() -> dict[str, tuple[str, int]]:
    """Size and epoch of each model that is measured, by name."""
    smaller = {size: (size, EPOCHS) for size in SIZES if size != LARGEST}
    earlier = {f"{LARGEST}, epoch {e}": (LARGEST, e) for e in CHECKPOINT_EPOCHS[:-1]}
    return {**smaller, **earlier, LARGEST: (LARGEST, EPOCHS)}


def _kept(seed: int) -> Kept:
    return Kept(f"language-seed{seed}", {"recipe": RECIPE, "seed": str(seed)}, shipped=True)


def _share(found: Tables, name: str, level: int) -> float:
    return float(found.recited[name][(found.copies == level).numpy()].mean())


def _forecast(found: Tables, name: str) -> Forecast:
    trained = (found.copies > 0).numpy()
    return forecast(found.recited[name][trained], found.recited[LARGEST][trained])


def _mean(values: Iterable[float]) -> float | None:
    """The mean of what is defined, to four digits."""
    known = [float(value) for value in values if not math.isnan(value)]
    return round(float(np.mean(known)), 4) if known else None
