"""A graph and the rules brought together: what the model returns with some edits."""

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

    With ``rows`` only for these examples of the chunk (an example may stand there often); with
    ``features`` ``[rows, K]`` each row has its own.
    """
    return Flow(graph, edits, rows, features, RULES).result()


def changed_rows(graph: Graph, edit: Edit) -> Tensor:
    """Examples of the chunk whose activation the edit changes at all, int64."""
    call = graph.tape.calls[edit.site.call]
    value = call.args[edit.site.argument] if edit.site.at == "input" else call.output
    features = edit.features(value.device)
    before = take(value, edit.site.axis % value.dim(), features)
    different = edit.part(before, features, None) != before
    return different.flatten(1).any(1).nonzero()[:, 0]
