"""Curves of recitation against copies and prompts: n-grams with known answers, and a slow loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from memviz.probes.extraction import (
    Extraction,
    extract,
    figures,
    recited_by_copies,
    recited_by_prompt,
)
from memviz.statistics import wilson

V = 80


class Counts(nn.Module):
    """Says what most often followed the last ``order`` tokens in training; else token 0."""

    def __init__(self, training: Tensor, order: int) -> None:
        super().__init__()
        self.order, self.counts = order, {}  # type: ignore[var-annotated]
        for row in training.tolist():
            for k in range(order, len(row)):
                followed = self.counts.setdefault(tuple(row[k - order : k]), np.zeros(V))
                followed[row[k]] += 1

    def forward(self, tokens: Tensor) -> Tensor:
        logits = torch.zeros(*tokens.shape, V)
        for row, ids in enumerate(tokens.tolist()):
            for k in range(len(ids)):
                followed = self.counts.get(tuple(ids[max(k + 1 - self.order, 0) : k + 1]))
                if followed is not None:
                    logits[row, k] = torch.tensor(followed)
        return logits


def drawn(n: int, tokens: int = 12, seed: int = 0) -> Tensor:
    return torch.randint(1, V, (n, tokens), generator=torch.Generator().manual_seed(seed))


def test_recited_iff_the_copies_outnumber_another_continuation() -> None:
    """m copies among c others that start alike: greedy decoding recites exactly if m > c."""
    starts = torch.tensor([[a, b] for a in range(1, 9) for b in range(1, 6)])
    passages = torch.cat([starts, torch.full((40, 1), 9)], 1)
    another = torch.cat([starts, torch.full((40, 1), 10)], 1)
    copies = torch.tensor([0, 1, 2, 4, 8] * 8)
    training = torch.cat([passages.repeat_interleave(copies, 0), another.repeat(3, 1)])
    found = extract(Counts(training, 2).eval(), passages, 2, 1, progress=False)
    table = recited_by_copies(found, copies)
    assert table.index.tolist() == [1, 2, 4, 8]
    assert table["n"].tolist() == [8] * 4
    assert table["share"].tolist() == [0, 0, 1, 1]
    assert (table["null"] == 0).all()
    assert table.loc[4, ["low", "high"]].tolist() == pytest.approx(list(wilson(8, 8)))
    assert table.loc[2, ["null_low", "null_high"]].tolist() == pytest.approx(list(wilson(0, 8)))


def test_counts_are_those_of_a_loop_and_of_any_order() -> None:
    passages = drawn(60)
    said = torch.where(torch.rand(60, 6, generator=torch.Generator().manual_seed(2)) < 0.8, 0, 1)
    said = torch.where(said == 0, passages[:, 6:], said)
    found = Extraction(tuple(map(str, range(60))), passages, said, 6, 6)
    copies = np.arange(60) % 7
    table = recited_by_copies(found, copies, buckets=[1, 3, 6])
    for edge, last in ((1, 2), (3, 5), (6, 6)):
        rows = [k for k in range(60) if edge <= copies[k] <= last]
        recited = sum(bool((said[k] == passages[k, 6:]).all()) for k in rows)
        assert table.loc[edge, ["n", "recited"]].tolist() == [len(rows), recited]
        rate = np.mean([(said[k] == passages[k, 6:]).double().mean() for k in rows])
        assert table.loc[edge, "constant_rate"] == pytest.approx(rate**6)
    order = np.random.default_rng(0).permutation(60)
    turned = Extraction(found.ids, passages[order], said[order], 6, 6)
    pd.testing.assert_frame_equal(
        table, recited_by_copies(turned, copies[order], buckets=[1, 3, 6])
    )
    assert recited_by_copies(found.memorized, copies)["constant_rate"].isna().all()
    assert recited_by_copies(found.memorized, copies + 1)["null"].isna().all()


def test_a_model_of_three_tokens_recites_from_a_prompt_of_three_on() -> None:
    planted, others = drawn(30), drawn(20, seed=1)
    model = Counts(planted, 3).eval()
    table = recited_by_prompt(
        model, planted, 6, [1, 2, 3, 4, 6], held_out=others, batch_size=7, progress=False
    )
    assert table["share"].tolist() == [0, 0, 1, 1, 1]
    assert (table["score"] >= table["share"]).all() and table.loc[1, "score"] < 0.2
    assert (table["null"] == 0).all() and (table["another_score"] < 0.3).all()
    for prompt, row in table.iterrows():
        found = extract(model, planted[:, 6 - prompt :], prompt, 6, progress=False)
        assert row["score"] == pytest.approx(found.scores.mean())
    alone = recited_by_prompt(model, planted[:1], 6, [3], progress=False)
    assert alone.loc[3, "share"] == 1
    assert alone[["null", "null_low", "another_score"]].isna().all(axis=None)


def test_figures_draw_what_the_tables_say() -> None:
    copies = [8, 8, 1, 1, 0, 0]
    tables = {
        name: recited_by_copies(np.array(recited), copies)
        for name, recited in {"$a$": [1, 1, 1, 0, 0, 0] > np.zeros(6), "b": np.zeros(6) > 0}.items()
    }
    axes = figures.recited(tables).axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.5, 1], [0, 0], [0, 0]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["$a$", "b", "held out"]
    passages = drawn(4)
    found = Extraction(tuple("abcd"), passages, passages[:, 6:], 6, 6)
    bars = figures.histogram({"$in$": found}).axes[0]
    assert [bar.get_height() for bar in bars.patches] == [0] * 6 + [4]
    assert bars.lines[0].get_ydata().tolist() == [0] * 6 + [4]
    by_prompt = recited_by_prompt(Counts(passages, 3).eval(), passages, 6, [3], progress=False)
    with pytest.raises(ValueError, match="the tables are by"):
        figures.recited({**tables, "c": by_prompt})
    with pytest.raises(ValueError, match="give tables of"):
        figures.recited({})
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.histogram({})


@pytest.mark.parametrize(
    ("recited", "copies", "options", "sentence"),
    [
        ([True, False], [1], {}, "copies is .* for each of the 2 passages"),
        ([True, False], [1.0, 2.0], {}, "give a whole number"),
        ([True, False], [-1, 2], {}, "0 for held-out ones"),
        ([True, False], [0, 0], {}, "no passage was in training"),
        ([1, 0], [1, 1], {}, "'recited' is"),
        ([True, False], [1, 2], {"buckets": [2, 1]}, "buckets is .* rising"),
        ([True, False], [1, 2], {"buckets": [0, 1]}, "buckets is"),
        ([True, False], [1, 2], {"buckets": []}, "buckets is"),
    ],
)
def test_bad_copies_get_one_sentence(
    recited: Any, copies: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        recited_by_copies(recited, copies, **options)


def test_bad_prompts_get_one_sentence() -> None:
    model = Counts(drawn(3), 3).eval()
    with pytest.raises(ValueError, match="prompts is .* lengths of prompts"):
        recited_by_prompt(model, drawn(3), 6, [4, 2], progress=False)
    with pytest.raises(ValueError, match="fewer than a prompt of 8"):
        recited_by_prompt(model, drawn(3), 6, [2, 8], progress=False)
    with pytest.raises(ValueError, match="train"):
        recited_by_prompt(model.train(), drawn(3), 6, [2], progress=False)
