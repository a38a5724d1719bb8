"""Running a graph by the rules: what the model returns with some edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memviz.engine.record import Edit, take

from ._flow import Flow
from ._graph import Graph
from ._rules import RULES


@torch.no_grad()
def run(
    graph: Graph,
    edits: Sequence[Edit],
    rows: Tensor | None = None,
    features: Tensor | None = None,
) -> Any:
    """What the model returns with these edits.

    ``rows``, int64 ``[rows]``, restricts the pass to these examples of the chunk (repeats are
    allowed); ``features``, int64 ``[rows, K]``, gives each row its own features to edit.
    """
    return Flow(graph, edits, rows, features, RULES).result()


def changed_rows(graph: Graph, edit: Edit) -> Tensor:
    """The examples of the chunk whose activation the edit changes, int64 ``[rows]``."""
    call = graph.tape.calls[edit.site.call]
    value = call.inputs[edit.site.argument] if edit.site.at == "input" else call.output
    features = edit.features(value.device)
    before = take(value, edit.site.axis % value.dim(), features)
    different = edit.part(before, features, None) != before
    return different.flatten(1).any(1).nonzero()[:, 0]
