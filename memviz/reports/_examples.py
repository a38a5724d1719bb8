"""Which examples are memorized, by which scores, and how far the scores agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from memviz.probes.examples import agreement, example_table, rank_correlations
from memviz.probes.examples.figures import agreement as agreement_figure
from memviz.probes.examples.figures import distribution
from memviz.probes.examples.figures import rank_correlations as correlation_figure
from memviz.scores import Scores
from memviz.study import Study, default_groups, has_classes

from ._parts import Section, between, figure, table, words

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 20  # examples on the page; the file has all
_AUROC = (
    "AUROC: the probability that a planted example scores above another one, ties half; "
    "line: 95% of 500 resamples of the examples, grey: of 500 permutations of the truth."
)


def examples_section(study: Study, scores: Sequence[Scores], seed: int) -> Section:
    """The chapter on examples."""
    parts = [
        words(
            "Each score below ranks the examples; none of them proves that an example is "
            "memorized. An example stands out in a score if it lies above 97.5% of that score's "
            "null, its own draws of the same measure where there is nothing to find."
        )
    ]
    if not scores:
        parts = [words("No scores over examples were asked for.")]
        return Section("examples", "Which examples are memorized", tuple(parts))
    whole = example_table(study, scores)
    above = {score.name: _above_null(score) for score in scores}
    parts += [_found(study, scores, above, seed), _ranked(study, scores, whole, above)]
    first = scores[0]
    if first.examples is not None and np.isfinite(first.values).any():
        parts.append(
            figure(
                lambda: distribution(first, study),
                f"{first.name}, by group",
                "one-score",
                first.frame,
                method=_method(first),
            )
        )
    if len(scores) > 1:
        parts.append(_correlations(study, scores))
    return Section("examples", "Which examples are memorized", tuple(parts))


def _found(study: Study, scores: Sequence[Scores], above: dict[str, np.ndarray], seed: int) -> str:
    """What each score finds: AUROC against the truth if it is known, and how many stand out."""
    import pandas as pd

    planted, whose = _planted(study)
    group, against = default_groups(study, None, None)
    rows = []
    for score in scores:
        assert score.examples is not None
        row: dict[str, object] = {"score": score.name}
        for name in filter(None, (group, against)):
            members = study.groups[name].numpy()[score.examples]
            count, of = int((above[score.name] & members).sum()), int(members.sum())
            row[f"{name}: stand out"] = f"{count:,} of {of:,}"
        row |= {"measure": score.measure, "method and source": score.source or "–"}
        row["null"] = score.null.words if score.null is not None else "none is defined"
        rows.append(row)
    frame = pd.DataFrame(rows)
    if planted is None:
        return table(frame, "What stands out in each score", "scores", method=whose)
    found = agreement(study, scores, planted, seed=seed)
    names = {"auroc": "AUROC", "low": "low", "high": "high"}
    names |= {"null low": "null, low", "null high": "null, high"}
    beside = found[list(names)].rename(columns=names).reset_index(names="score")
    whole = beside.merge(frame, on="score")
    frame = whole.drop(columns=list(names.values()))
    for title, ends in (("permuted", ("null, low", "null, high")), ("95%", ("low", "high"))):
        texts = [between(low, high, _auroc) for low, high in whole[list(ends)].to_numpy(float)]
        frame.insert(1, title, texts)
    frame.insert(1, "AUROC", whole["AUROC"])
    method = f"{_AUROC} Planted: {whose}"
    listed = table(
        frame,
        "What each score finds",
        "scores",
        method=method,
        whole=whole,
        formats={"AUROC": _auroc},
    )
    if not found["auroc"].notna().all():
        return listed
    drawn = figure(
        lambda: agreement_figure(found),
        "How well each score separates the planted examples",
        "agreement",
        beside,
        method=method,
    )
    return drawn + listed


def _planted(study: Study) -> tuple[torch.Tensor | None, str]:
    """The examples known to be planted, and where that is known from."""
    group = next(iter(study.groups))
    if study.suspicion is not None:
        return None, (
            "The groups of this study were taken from a score, so that no score can be judged by "
            "them: no AUROC."
        )
    if study.true_labels is not None:
        wrong = (study.true_labels != study.labels).reshape(len(study), -1).any(1)
        if bool(wrong.any()) and not bool(wrong.all()):
            return wrong, "the examples with a wrong label."
    return study.groups[group], f"the group {group}."


def _above_null(score: Scores) -> np.ndarray:
    if score.null is None:
        return np.zeros(len(score), bool)
    return np.asarray(score.values > score.null.interval[1])


def _ranked(
    study: Study, scores: Sequence[Scores], whole: pd.DataFrame, above: dict[str, np.ndarray]
) -> str:
    """The examples that stand out in most scores, then those of the highest mean rank."""
    names = [score.name for score in scores]
    counts = np.zeros(len(whole), int)
    for score in scores:
        counts += np.isin(whole.index, np.asarray(score.examples)[above[score.name]])
    ranks = whole[names].rank(ascending=False, method="average").mean(axis=1)
    frame = whole.drop(columns=names)
    for column in ("given label", "true label"):
        if column in frame and study.class_names is not None and has_classes(study):
            frame[column] = [study.class_name(label) for label in frame[column]]
    frame["stands out in"] = counts
    frame["mean rank"] = ranks
    frame = frame.join(whole[names]).reset_index()
    frame = frame.sort_values(
        ["stands out in", "mean rank", "example"], ascending=[False, True, True]
    )
    most = min(_SHOWN, len(frame))
    return table(
        frame,
        f"The {most} of {len(frame):,} examples that stand out in most of {len(names)} scores",
        "examples",
        method="Sorted by the number of scores in which an example lies above the null, then by "
        "its mean rank (1: the highest); the file has all of them.",
        shown=most,
        formats={"mean rank": "{:,.1f}".format},
    )


def _correlations(study: Study, scores: Sequence[Scores]) -> str:
    import pandas as pd

    tables = rank_correlations(study, scores)
    frame = pd.concat(
        [
            frame.rename_axis("score").reset_index().assign(**{"of": name})
            for name, frame in tables.items()
        ]
    )
    return figure(
        lambda: correlation_figure(tables),
        "How far the scores agree",
        "rank-correlations",
        frame,
        method="Spearman rank correlation of each pair of scores. A planted label raises all "
        "scores at once: only clean examples say whether two agree on natural ones.",
    )


def _auroc(value: float) -> str:
    return f"{value:.3f}"


def _method(score: Scores) -> str:
    source = f" Source: {score.source}." if score.source else ""
    null = "" if score.null is None else f" Dashed: 95% of the null, {score.null.words}."
    return f"{score.measure}.{null}{source}"
