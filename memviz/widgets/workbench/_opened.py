"""The opened example: its picture, attributions and class probabilities, before and after."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from memviz.engine.sets import Readout
from memviz.probes.attribution import attribute_inputs
from memviz.session import Session
from memviz.study import Study
from memviz.widgets.core import Labels, Message, Pictures, pack

from ._messages import predicted


def opened_example(
    session: Session,
    pictures: Pictures,
    labels: Labels,
    readout: Readout,
    after: Tensor,
    index: int,
    method: str,
) -> Iterator[Message | None]:
    """Explain the opened example step by step; the last step gives the message.

    Probabilities are sent if the labels are classes and the task gives any. ``after`` are the
    example's outputs under the readout's ablation; with an empty ``method`` there are no
    attributions.
    """
    study, chosen = session.replay.study, torch.tensor([index])
    before = session.replay.clean[index]
    truth = int(labels.truth[index])
    was, now = (int(number[0]) for number in predicted(readout, labels, chosen))
    content = {
        "type": "example",
        "index": index,
        "version": session.version,
        "method": method,
        "words": _words(method),
        "target": int(labels.given[index]),
        "truth": None if study.true_labels is None else truth,
        "group": next((name for name, mask in study.groups.items() if mask[index]), ""),
        "before": was,
        "after": now,
    }
    arrays = {"image": pictures.full(chosen)[0]}
    if labels.classes and hasattr(study.task, "probabilities"):
        arrays["prob_before"] = _probabilities(study, before)
        arrays["prob_after"] = _probabilities(study, after)
    if method:
        arrays["attr_before"] = arrays["attr_after"] = _map(attribute_inputs(study, chosen, method))
        yield None
    if method and readout.units:
        ablated = attribute_inputs(study, chosen, method, units=readout.units, how=readout.how)
        arrays["attr_after"] = _map(ablated)
    yield pack(content, **arrays)


def _probabilities(study: Study, outputs: Tensor) -> np.ndarray:
    assert hasattr(study.task, "probabilities")
    return np.asarray(study.task.probabilities(outputs[None])[0].float().cpu().numpy())


def _map(attribution: Tensor) -> np.ndarray:
    values = attribution[0].float().cpu()
    return np.asarray((values.sum(0) if values.dim() == 3 else values).numpy(), np.float32)


def _words(method: str) -> str:
    if not method:
        return ""
    baseline = ", baseline zero" if method == "integrated_gradients" else ""
    return f"Captum {method.replace('_', ' ')}{baseline}"
