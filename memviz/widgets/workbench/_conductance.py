"""Captum's conductance of every unit, layer by layer, for the unit map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from memviz.probes.attribution import attribute_layers
from memviz.session import Session
from memviz.units import Unit
from memviz.widgets.core import Message, unit_scores_message

_EXAMPLES = 24


def conductance(
    session: Session, units: Sequence[Unit], group: str
) -> Iterator[tuple[int, int] | Message]:
    """Number of layers done and in all, after each layer; last, the message with all scores.

    The scores are for the opened example, else the chosen ones, else the first few of a group.
    """
    study = session.replay.study
    chosen = session.examples if session.opened is None else (session.opened,)
    examples = torch.tensor(chosen) if chosen else study.group(group)[:_EXAMPLES]
    whose = f"{len(examples)} {'chosen' if chosen else group}"
    whose = whose if session.opened is None else "the opened example"
    values = np.full(len(units), np.nan, np.float32)
    layers = [layer for layer in session.known if layer.is_plain]
    for count, layer in enumerate(layers):
        scores = attribute_layers(study, examples, layers=[layer.name], null_draws=0)
        start = list(units).index(next(iter(layer.all())))
        values[start : start + layer.units] = scores.values
        yield count, len(layers)
    label, measure = f"Captum conductance of {whose}", "logits of the given label"
    content, buffers = unit_scores_message("conductance", label, measure, values)
    yield Message({**content, "floor": 0}, buffers)
