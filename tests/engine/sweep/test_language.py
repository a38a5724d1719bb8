"""A sweep of a language model: estimates first, exact from the top, left and taken up again."""

from __future__ import annotations

from pathlib import Path

import torch

import memviz as mv
from memviz.engine.sweep import estimate, sweep, sweep_stream
from tests.support.passages import loud_gpt, study_of


def test_estimates_come_at_once_and_exact_effects_from_the_top(tmp_path: Path) -> None:
    study, path = study_of(loud_gpt()), tmp_path / "effects.safetensors"
    first = estimate(study)
    drop = -(first.margin_change[:, :3].mean(1) - first.margin_change[:, 3:].mean(1))
    order = drop.argsort(descending=True, stable=True).tolist()
    seen: list[int] = []
    for effects in sweep_stream(study, top=20, path=path):
        if not seen and not effects.done.any():
            # Every unit has its estimate before any is exact.
            assert torch.equal(effects.margin_change, first.margin_change)
        seen += [row for row in effects.done.nonzero()[:, 0].tolist() if row not in seen]
        if len(seen) >= 8:
            break  # as if the cell had been interrupted
    assert sorted(seen) == sorted(order[: len(seen)])
    again = next(iter(sweep_stream(study, top=20, path=path)))
    assert again.done.nonzero()[:, 0].tolist() == sorted(seen)  # nothing is lost
    last = sweep(study, top=20, path=path, progress=False)
    assert last.exact.nonzero()[:, 0].tolist() == sorted(order[:20])
    whole = sweep(study, progress=False)
    rows = last.exact
    torch.testing.assert_close(last.loss_change[rows], whole.loss_change[rows])
    torch.testing.assert_close(last.margin_change[~rows], first.margin_change[~rows])
    assert isinstance(last, mv.engine.sweep.Effects)
