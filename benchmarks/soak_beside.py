"""Plain calls of a model beside a busy workbench, and two workbenches on one study."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch

import memviz as mv
from benchmarks.soak_messages import good
from benchmarks.soak_world import Model, Shown, settled, strokes

WORKED = {"timeline", "scatter"}


def plain_calls(calls: int, seed: int) -> dict[str, Any]:
    """Call the model plainly in a thread while examples are opened and attributions drawn.

    Returns
    -------
    dict
        ``plain_calls``; ``plain_wrong``, calls whose output was not bitwise that of before;
        ``plain_messages`` sent meanwhile; ``plain_errors`` that the views were told;
        ``plain_identical``, whether the model is as it was.
    """
    study = strokes()
    assert isinstance(study.inputs, torch.Tensor)
    model, session = Model(study.model, (study.inputs,)), mv.Session(study)
    right, batch = model.outputs(), study.inputs
    wrong: list[int] = []
    over = threading.Event()

    def calling() -> None:
        try:
            for call in range(calls):
                with torch.set_grad_enabled(call % 2 == 0):
                    outputs = study.model(batch)
                if not torch.equal(outputs, right) or _left(study.model):
                    wrong.append(call)
        finally:
            over.set()

    shown = [Shown(kind(session)) for kind in (mv.workbench, mv.timeline, mv.score_scatter)]
    known = ["effect", "estimate", "conductance"]  # localizers would take the most of the time
    settled(shown[0].view)
    draw, sent = np.random.default_rng([seed, 1]), 0
    caller = threading.Thread(target=calling)
    caller.start()
    while not over.is_set():
        place = int(draw.integers(len(shown)))
        example = {"type": "open", "example": int(draw.integers(len(study)))}
        drawn = good(draw, session, shown[place].view.part, WORKED, known)
        shown[place].hear(example if sent % 3 == 0 else drawn)
        sent += 1
        if sent % 20 == 0:
            settled(shown[0].view)
    caller.join()
    errors = [text for one in shown for text in one.channel.errors]
    for one in shown:
        with one.view:
            pass
    counts: dict[str, Any] = {
        "plain_calls": calls,
        "plain_wrong": len(wrong),
        "plain_messages": sent,
    }
    counts |= {"plain_errors": len(errors)}
    return {
        **counts,
        "plain_error_texts": sorted(set(errors))[:9],
        "plain_identical": not model.changes(),
    }


def _left(model: torch.nn.Module) -> bool:
    return any(parameter.grad is not None for parameter in model.parameters())


def two_workbenches(clicks: int, seed: int) -> dict[str, Any]:
    """Click in two workbenches on one study, each with an example opened.

    Returns
    -------
    dict
        ``clicks`` in each; ``click_errors`` that the views were told; ``click_unanswered`` views;
        ``click_identical``, whether the model is as it was after both are closed.
    """
    study = strokes()
    assert isinstance(study.inputs, torch.Tensor)
    model = Model(study.model, (study.inputs,))
    shown = [Shown(mv.workbench(study)) for _ in range(2)]
    draw, wrong = np.random.default_rng([seed, 2]), []
    for click in range(clicks):
        for one in shown:
            if click % 10 == 0:
                one.hear({"type": "open", "example": int(draw.integers(len(study)))})
            layers = one.view.session.known
            layer = layers[int(draw.integers(len(layers)))]
            one.hear({"type": "toggle", "units": f"{layer.name}:{draw.integers(layer.units)}"})
        if click % 10 == 9:
            for one in shown:
                lack = one.answered() if settled(one.view) else "goes on for too long"
                wrong += [lack] * bool(lack)
    errors = [text for one in shown for text in one.channel.errors]
    for one in shown:
        with one.view:
            pass
    counts: dict[str, Any] = {
        "clicks": clicks,
        "click_errors": len(errors),
        "click_unanswered": len(wrong),
    }
    return {
        **counts,
        "click_error_texts": sorted(set(errors))[:9],
        "click_identical": not model.changes(),
    }
