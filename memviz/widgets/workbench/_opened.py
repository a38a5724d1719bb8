"""The opened example: its picture, attributions and class probabilities, before and after."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from memviz.engine.sets import Readout
from memviz.probes.attribution import attribute_inputs
from memviz.session import Session
from memviz.widgets.core import Message, Pictures, pack


def opened_example(
    session: Session,
    pictures: Pictures,
    readout: Readout,
    after: Tensor,
    index: int,
    method: str,
) -> Iterator[Message | None]:
    """Explain the opened example step by step; the last step gives the message.

    ``after`` are the example's outputs under the readout's ablation; with an empty ``method``
    there are no attributions.
    """
    study, chosen = session.replay.study, torch.tensor([index])
    before = session.replay.clean[index]
    content = {
        "type": "example",
        "index": index,
        "version": session.version,
        "method": method,
        "words": _words(method),
        "target": int(study.labels[index]),
        "truth": None if study.true_labels is None else int(study.true_labels[index]),
        "group": next((name for name, mask in study.groups.items() if mask[index]), ""),
        "before": int(before.argmax()),
        "after": int(after.argmax()),
    }
    arrays = {"image": pictures.full(chosen)[0]}
    if before.dim() == 1:
        arrays["prob_before"] = before.softmax(0).float().cpu().numpy()
        arrays["prob_after"] = after.softmax(0).float().cpu().numpy()
    if method:
        arrays["attr_before"] = arrays["attr_after"] = _map(attribute_inputs(study, chosen, method))
        yield None
    if method and readout.units:
        ablated = attribute_inputs(study, chosen, method, units=readout.units, how=readout.how)
        arrays["attr_after"] = _map(ablated)
    yield pack(content, **arrays)


def _map(attribution: Tensor) -> np.ndarray:
    values = attribution[0].float().cpu()
    return np.asarray((values.sum(0) if values.dim() == 3 else values).numpy(), np.float32)


def _words(method: str) -> str:
    baseline = ", baseline zero" if method == "integrated_gradients" else ""
    return f"Captum {method.replace('_', ' ')}{baseline}"
