"""Which gates hold the memorized digits: each gate alone, then the first of a ranking together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from memviz.engine.sets import ablate
from memviz.engine.sweep import sweep
from memviz.models.logic_gates import PackedNetwork, live_gates
from memviz.study import Study
from memviz.training.loop import predict
from memviz.units import UnitSet

from ._data import clean_digits
from ._recipe import design, load

if TYPE_CHECKING:
    import pandas as pd

CONSTANTS = ("zero", "constant 1")
COUNTS = (25, 50, 100, 200, 800)
DRAWS = 10
_HOOKED = 50  # gates of the plain hook loop that a sweep is compared with


def ranking(study: Study, *, progress: bool = True) -> pd.DataFrame:
    """The live gates, those first that memorized examples lose most votes by.

    Each gate alone is set to 0, and to 1, exactly. Its score is the mean drop of the vote margin on
    memorized examples minus that on clean ones, with the constant with which it is greater.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer``, ``unit``, ``how`` (the better constant) and ``score`` in votes.
    """
    import pandas as pd

    gates = live(study)
    examples = torch.cat([study.group("memorized"), study.group("clean")])
    assert isinstance(study.model, nn.Sequential)
    tau = float(study.model[-1].tau)  # type: ignore[arg-type]
    scores = []
    for how in CONSTANTS:
        effects = sweep(study, gates, examples, how, progress=progress)
        drops = -effects.margin_change * tau
        gap = drops[:, effects.members("memorized")].mean(1)
        scores.append(gap - drops[:, effects.members("clean")].mean(1))
    best = torch.stack(scores).max(0)
    table = pd.DataFrame([(unit.layer, unit.index) for unit in gates], columns=["layer", "unit"])
    table["how"] = [CONSTANTS[number] for number in best.indices]
    table["score"] = best.values.numpy()
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def ablation(
    study: Study,
    ranked: pd.DataFrame,
    counts: Sequence[int] = COUNTS,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy of each group without the first gates of the ranking, and without random live ones.

    Parameters
    ----------
    study : Study
    ranked : pandas.DataFrame
        Of :func:`ranking`.
    counts : sequence of int
        How many gates, set together to the better constant of each.
    draws : int
        Of random live gates, each with its own better constant; the mean counts.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns ``gates``, ``chosen`` ("none", "top" or "random"), and one a group.
    """
    import pandas as pd

    rows: list[dict[str, object]] = [{"gates": 0, "chosen": "none", **kept(study, ranked[:0])}]
    # A draw depends on the seed and its number alone, and a smaller one is part of a larger.
    orders = [np.random.default_rng([seed, k]).permutation(len(ranked)) for k in range(draws)]
    for count in counts:
        rows.append({"gates": count, "chosen": "top", **kept(study, ranked[:count])})
        drawn = [kept(study, ranked.iloc[order[:count]]) for order in orders]
        means = {name: float(np.mean([row[name] for row in drawn])) for name in study.groups}
        rows.append({"gates": count, "chosen": "random", **means})
    return pd.DataFrame(rows)


def kept(study: Study, gates: pd.DataFrame) -> dict[str, float]:
    """Share of each group that is given its label with these gates as their better constants."""
    assert isinstance(study.inputs, Tensor)
    with ExitStack() as blocks:
        for how, part in gates.groupby("how"):
            units = UnitSet(
                [f"{layer}:{unit}" for layer, unit in zip(part.layer, part.unit, strict=True)]
            )
            blocks.enter_context(ablate(study, units, str(how)))
        right = predict(study.model, study.inputs) == study.labels
    return {name: right[mask].double().mean().item() for name, mask in study.groups.items()}


def margins(study: Study) -> dict[str, float]:
    """Median vote margin of each group: votes for the label minus the most for another class."""
    assert isinstance(study.inputs, Tensor) and isinstance(study.model, nn.Sequential)
    votes = PackedNetwork(study.model).votes(study.inputs)
    labels = study.labels[:, None]
    margin = votes.gather(1, labels)[:, 0] - votes.scatter(1, labels, -1).amax(1)
    return {name: margin[mask].double().median().item() for name, mask in study.groups.items()}


def live(study: Study) -> UnitSet:
    """The gates that something reads."""
    found = live_gates(study.model).items()
    return UnitSet({name: rows.nonzero()[:, 0].tolist() for name, rows in found})


def speeds(study: Study, *, seed: int = 0, progress: bool = True) -> dict[str, float]:
    """How many times as fast bits are as floats: a forward pass, and a gate of a sweep."""
    assert isinstance(study.inputs, Tensor) and isinstance(study.model, nn.Sequential)
    packed, inputs, model = PackedNetwork(study.model), study.inputs, study.model
    slow = min(_seconds(lambda: predict(model, inputs)) for _ in range(5))
    fast = min(_seconds(lambda: packed.predictions(inputs)) for _ in range(5))
    gates = live(study)
    drawn = np.random.default_rng(seed).permutation(len(gates))[:_HOOKED]
    some = UnitSet([unit for row, unit in enumerate(gates) if row in set(drawn)])
    hooked = _seconds(lambda: sweep(study, some, engine="hook", progress=False)) / len(some)
    swept = _seconds(lambda: sweep(study, gates, progress=progress)) / len(gates)
    return {"packed_speedup": slow / fast, "sweep_speedup": hooked / swept}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def record(seed: int = 0, *, progress: bool = True) -> dict[str, float]:
    """All figures of one seed, for ``python -m memviz.demos.gates --json``."""
    model, of_design = design(seed)
    data = clean_digits(seed)
    last = of_design[of_design.group == "test"].set_index("reading").groupby("reading").last()
    study = load(seed)
    assert isinstance(study.inputs, Tensor) and isinstance(study.model, nn.Sequential)
    hard = (predict(model, data.inputs) == data.labels)[data.groups["test"]].double().mean()
    equal = [
        torch.equal(PackedNetwork(net).predictions(inputs), predict(net, inputs))
        for net, inputs in ((model, data.inputs), (study.model, study.inputs))
    ]
    table = ablation(study, ranking(study, progress=progress), (50,), seed=seed)
    found = {"soft_test": float(last.given["soft"]), "hard_test": float(hard)}
    found |= {"packed_equal": float(all(equal)), **speeds(study, seed=seed, progress=progress)}
    for chosen in ("top", "random"):
        row = table[table.chosen == chosen].iloc[0]
        found |= {f"{chosen}50 {name}": float(row[name]) for name in ("memorized", "test")}
    return found
