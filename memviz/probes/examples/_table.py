"""Scores of examples side by side: one table, and how alike they rank the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.scores import Scores
from memviz.study import Study

if TYPE_CHECKING:
    import pandas as pd

_ERROR = ", standard error"


def example_table(study: Study, scores: Sequence[Scores]) -> pd.DataFrame:
    """One row an example, one column a score, and what is known of the example.

    Parameters
    ----------
    study : Study
    scores : sequence of Scores
        Of examples, each with a name of its own. An example that a score does not know has NaN.

    Returns
    -------
    pandas.DataFrame
        Index ``example`` (the study's indices); columns ``given label``, ``true label`` (where
        known), ``group``, then each score by its name, with its standard error where it has one.
        ``frame.attrs`` holds measure, direction, source and null of each score;
        ``frame.to_csv(path)`` and ``frame.to_parquet(path)`` write it.

    Raises
    ------
    ValueError
        If there are no scores, two of one name, one of units, or of examples outside the study.

    Examples
    --------
    >>> labels, model = [0, 1, 2], torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.zeros(3, 4), labels, {"test": labels})
    >>> two = Scores("loss", "nats", np.array([0.5, 0.1]), examples=np.array([0, 2]))
    >>> example_table(study, [two])[["given label", "loss"]]
             given label  loss
    example
    0                  0   0.5
    2                  2   0.1
    """
    import pandas as pd

    examples = _examples(study, scores)
    frame = pd.DataFrame(index=pd.Index(examples, name="example"))
    frame["given label"] = study.labels[examples].numpy()
    if study.true_labels is not None:
        frame["true label"] = study.true_labels[examples].numpy()
    frame["group"] = [_group(study, int(example)) for example in examples]
    for one in scores:
        rows = pd.Index(np.asarray(one.examples))
        frame[one.name] = pd.Series(one.values, rows).reindex(examples)
        error = getattr(one, "standard_error", None)
        if error is not None:
            frame[one.name + _ERROR] = pd.Series(error, rows).reindex(examples)
    frame.attrs = {
        one.name: {
            "measure": one.measure,
            "higher": one.higher,
            "source": one.source,
            "null": one.null.words if one.null is not None else "none is defined",
        }
        for one in scores
    }
    return frame


def rank_correlations(study: Study, scores: Sequence[Scores]) -> dict[str, pd.DataFrame]:
    """Spearman correlation of each pair of scores: on all examples, and on the clean ones alone.

    A planted wrong label lifts every score at once, so the clean table is the one that says whether
    two scores agree about natural examples. Each pair is compared where both are known.

    Returns
    -------
    dict
        ``"all examples"``, and ``"clean examples"`` where the study tells true labels or has a
        group of the name clean; both are ``[scores, scores]``.

    Examples
    --------
    >>> labels, model = [0, 1, 2], torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.zeros(3, 4), labels, {"test": labels})
    >>> one, two = (Scores(name, "", np.arange(3.0), examples=np.arange(3)) for name in "ab")
    >>> rank_correlations(study, [one, two])["all examples"].loc["a", "b"].item()
    1.0
    """
    table = example_table(study, scores)
    columns = [one.name for one in scores]
    found = {"all examples": table[columns].corr(method="spearman", min_periods=3)}
    clean = _clean(study)
    if clean is not None:
        kept = table[clean[torch.tensor(table.index)].numpy()]
        found["clean examples"] = kept[columns].corr(method="spearman", min_periods=3)
    return found


def _examples(study: Study, scores: Sequence[Scores]) -> np.ndarray:
    if not scores:
        raise ValueError("there are no scores to lay side by side; give at least one.")
    names = [one.name for one in scores]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"two scores have the name {twice[0]!r}; give each its own.")
    found: set[int] = set()
    for one in scores:
        if one.examples is None:
            raise ValueError(f"{one.name!r} scores units; the table is of examples.")
        ids = np.asarray(one.examples)
        if len(np.unique(ids)) < len(ids) or (
            len(ids) and not 0 <= ids.min() <= ids.max() < len(study)
        ):
            raise ValueError(
                f"{one.name!r} names an example twice or one outside the study, which has "
                f"{len(study):,}; score each of them once."
            )
        found.update(ids.tolist())
    return np.array(sorted(found), dtype=np.int64)


def _group(study: Study, example: int) -> str:
    return next((name for name, mask in study.groups.items() if mask[example]), "")


def _clean(study: Study) -> Tensor | None:
    if study.true_labels is not None:
        return study.true_labels == study.labels
    return study.groups.get("clean")
