"""Measures of every model of a family: entropy and pair information of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from memviz.probes.information import Edges, Estimator, Where, entropy, pair_information
from memviz.study import Study

from ._families import accuracies

if TYPE_CHECKING:
    import pandas as pd


def measures(
    studies: Mapping[Any, Study],
    bins: int = 100,
    where: Where = "before",
    estimators: Sequence[Estimator] = ("binned", "ksg"),
    progress: bool = True,
) -> pd.DataFrame:
    """One row per model: accuracies, mean entropy for all three edges, mean pair information.

    Measured on each study's group ``test``; each measure has its null beside it.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> inputs, groups = torch.randn(40, 4), {"clean": range(20), "test": range(20, 40)}
    >>> studies = {"one": Study(model.eval(), inputs, torch.zeros(40), groups)}
    >>> measures(studies, bins=10, estimators=["binned"]).shape
    (1, 10)
    """
    import pandas as pd

    rows = {}
    for setting, study in studies.items():
        held_out, row = study.group("test"), dict(accuracies(study))
        for edges in get_args(Edges):
            result = entropy(
                study, None, held_out, bins=bins, edges=edges, where=where, progress=progress
            )
            row[f"entropy {edges}"] = result.mean
            row[f"null entropy {edges}"] = result.null_mean
        for estimator in estimators:
            pairs = pair_information(
                study,
                None,
                held_out,
                estimator=estimator,
                where=where,
                null_draws=1,
                progress=progress,
            )
            row[f"pairs {estimator}"] = pairs.mean
            row[f"null pairs {estimator}"] = pairs.null_mean
        rows[setting] = row
    return pd.DataFrame(rows).T
