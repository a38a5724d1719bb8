"""The curves of the ready language model: what is read is the model, and the verdict reads them."""

from __future__ import annotations

import numpy as np

from memviz.demos.language.localization import HEAD_SHARES, HEADS, METHODS, curves, verdict
from memviz.probes.lm_localization import DeletionCurve, activations
from memviz.study import Study
from tests.support.passages import PROMPT, TOKENS, loud_gpt, passages


def test_every_localizer_is_in_the_demo() -> None:
    from memviz.probes.lm_localization.localizers import LOCALIZERS

    assert len(METHODS) == len(LOCALIZERS)


def test_curves_score_a_few_passages_and_read_all() -> None:
    from memviz.tasks import Language

    tokens = passages(12)
    groups = {"recited": range(6), "held out": range(6, 12)}
    task = Language(PROMPT, TOKENS - PROMPT)
    study = Study(loud_gpt(), tokens, tokens[:, PROMPT:], groups, task=task)
    ((curve, seconds),) = curves(study, 2, 1, {"activations": activations}, (0, 0.1))
    assert curve.counts == (0, 5) and curve.groups == ("recited", "held out") and seconds > 0
    assert curve.perplexity[0] == 1.0 and curve.random_recited.shape == (1, 2, 2)
    assert curve.name == "activations" and curve.distance is None
    ((curve, _),) = curves(study, 2, 0, HEADS, HEAD_SHARES[:1], distances=True)
    assert curve.name == "zero-out of heads" and curve.distance is not None
    assert curve.distance.shape == (1, 2)


def test_the_verdict_names_the_last_count_within_ten_per_cent() -> None:
    recited = np.array([[1.0], [0.6], [0.2]])
    ratio = np.array([1.0, 1.08, 1.3])
    curve = DeletionCurve(
        "demo", (0, 4, 8), ("recited",), recited, recited, ratio, recited[None], recited[None],
        ratio[None],
    )  # fmt: skip
    assert verdict(curve).startswith("demo: 4 units, recited 0.60 (random 0.60), held-out")
