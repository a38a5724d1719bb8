"""Scores of examples in one table, and their rank correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import checked, quoted
from memviz.scores import Scores
from memviz.study import Study

if TYPE_CHECKING:
    import pandas as pd

_ERROR = ", standard error"


@checked
def example_table(study: Study, scores: Sequence[Scores]) -> pd.DataFrame:
    """One row per example, one column per score, with the example's labels and group.

    Parameters
    ----------
    study : Study
    scores : sequence of Scores
        Over examples, each with a different name. An example that a score does not cover has NaN.

    Returns
    -------
    pandas.DataFrame
        Index ``example`` (the study's indices); columns ``given label``, ``true label`` (if known),
        ``group``, then each score by its name, with its standard error if it has one. Where an
        example has several labels, they are a tuple.
        ``frame.attrs`` holds measure, direction, source and null of each score.

    Raises
    ------
    ValueError
        If there are no scores, two have the same name, or one is over units or over examples
        outside the study.

    Examples
    --------
    >>> labels, model = [0, 1, 2], torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.zeros(3, 4), labels, {"test": labels})
    >>> loss = Scores("loss", "nats", np.array([0.5, 0.1]), examples=np.array([0, 2]))
    >>> example_table(study, [loss])[["given label", "loss"]]
             given label  loss
    example
    0                  0   0.5
    2                  2   0.1
    """
    import pandas as pd

    examples = _examples(study, scores)
    frame = pd.DataFrame(index=pd.Index(examples, name="example"))
    frame["given label"] = _column(study.labels[examples])
    if study.true_labels is not None:
        frame["true label"] = _column(study.true_labels[examples])
    frame["group"] = [_group(study, int(example)) for example in examples]
    for score in scores:
        rows = pd.Index(np.asarray(score.examples))
        frame[score.name] = pd.Series(score.values, rows).reindex(examples)
        error = getattr(score, "standard_error", None)
        if error is not None:
            frame[score.name + _ERROR] = pd.Series(error, rows).reindex(examples)
    frame.attrs = {
        score.name: {
            "measure": score.measure,
            "higher": score.higher,
            "source": score.source,
            "null": score.null.words if score.null is not None else "none is defined",
        }
        for score in scores
    }
    return frame


@checked
def rank_correlations(study: Study, scores: Sequence[Scores]) -> dict[str, pd.DataFrame]:
    """Spearman correlation of each pair of scores: on all examples, and on the clean ones alone.

    A planted wrong label raises every score at once, so only the clean table says whether two
    scores agree about natural examples. Each pair is compared on the examples that both cover.

    Returns
    -------
    dict of str to pandas.DataFrame
        ``"all examples"``, and ``"clean examples"`` if the study has true labels or a group
        ``clean``; both are ``[scores, scores]``.

    Examples
    --------
    >>> labels, model = [0, 1, 2], torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.zeros(3, 4), labels, {"test": labels})
    >>> one, two = (Scores(name, "", np.arange(3.0), examples=np.arange(3)) for name in "ab")
    >>> rank_correlations(study, [one, two])["all examples"].loc["a", "b"].item()
    1.0
    """
    table = example_table(study, scores)
    columns = [score.name for score in scores]
    tables = {"all examples": table[columns].corr(method="spearman", min_periods=3)}
    clean = _clean(study)
    if clean is not None:
        kept = table[clean[torch.tensor(table.index)].numpy()]
        tables["clean examples"] = kept[columns].corr(method="spearman", min_periods=3)
    return tables


def _examples(study: Study, scores: Sequence[Scores]) -> np.ndarray:
    if not scores:
        raise ValueError("scores is empty; give at least one.")
    names = [score.name for score in scores]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"two scores have the name {quoted(twice[0])}; give each a different name."
        )
    examples: set[int] = set()
    for score in scores:
        if score.examples is None:
            raise ValueError(f"{quoted(score.name)} is over units; give scores over examples.")
        ids = np.asarray(score.examples)
        if len(np.unique(ids)) < len(ids) or (
            len(ids) and not 0 <= ids.min() <= ids.max() < len(study)
        ):
            raise ValueError(
                f"{quoted(score.name)} contains an example twice or one outside the study, "
                f"which has {len(study):,}; score each example once."
            )
        examples.update(ids.tolist())
    return np.array(sorted(examples), dtype=np.int64)


def _group(study: Study, example: int) -> str:
    return next((name for name, mask in study.groups.items() if mask[example]), "")


def _column(labels: Tensor) -> np.ndarray | list[Any]:
    """Labels as a column: numbers, or tuples where an example has several."""
    return labels.numpy() if labels.dim() == 1 else [tuple(row) for row in labels.tolist()]


def wrong_labels(study: Study) -> Tensor | None:
    """Which examples have another label than the true one, bool ``[n]``; of several, any other.

    None if the true labels are unknown.

    Examples
    --------
    >>> model, labels = torch.nn.Linear(4, 3).eval(), [0, 1, 2]
    >>> study = Study(model, torch.zeros(3, 4), labels, {"all": labels}, true_labels=[0, 2, 2])
    >>> wrong_labels(study)
    tensor([False,  True, False])
    """
    if study.true_labels is None:
        return None
    return (study.true_labels != study.labels).reshape(len(study), -1).any(1)


def _clean(study: Study) -> Tensor | None:
    wrong = wrong_labels(study)
    if wrong is not None:
        return ~wrong
    return study.groups.get("clean")
