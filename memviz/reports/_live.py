"""The live page: a view of the study that answers clicks on single units without a kernel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from tqdm.auto import tqdm

from memviz.engine.sweep import Effects
from memviz.probes.deja_vu.ablation import Retrieval
from memviz.session import Session
from memviz.study import Study
from memviz.widgets.core import Message, Saved, Telling, saved
from memviz.widgets.deja_vu import DejaVuController
from memviz.widgets.workbench import Controller


@dataclass(frozen=True, eq=False)
class Swept:
    """A view that has computed all it can, and the exact effects that it found."""

    view: Saved
    effects: Effects


def live_study(study: Study, *, progress: bool) -> Swept:
    """Sweep every unit of a study as its workbench does."""
    session = Session(study)
    controller = Controller(session, threaded=False)
    view = _computed(controller, "workbench", progress=progress)
    return Swept(view, controller.effects[controller.key])


def live_retrieval(retrieval: Retrieval, *, progress: bool) -> Saved:
    """The déjà vu explorer of a retrieval."""
    controller = DejaVuController(retrieval, Session(retrieval.study), threaded=False)
    with closing(controller):
        # After the sweep, which says which units those are.
        last = partial(controller.find_alone, progress=progress)
        return _computed(controller, "deja_vu", last, progress=progress)


def _computed(
    controller: Telling, part: str, last: Callable[[], None] = lambda: None, *, progress: bool
) -> Saved:
    """Let a controller do all its work in this thread, then ``last``; take what a page needs."""
    with tqdm(desc="sweep", unit="unit", disable=not progress, leave=False) as bar:
        ear = _Ear(bar)
        controller.sinks.append(ear)
        try:
            controller.receive({"type": "hello"}, ear)
            controller.worker.run_until_idle()
            last()
            found = saved(part, controller.snapshot())
        finally:
            controller.close()
    if ear.errors:
        raise RuntimeError(ear.errors[0]) from controller.failure
    return found


class _Ear:
    """Hears what a browser would be told: progress, and what went wrong."""

    def __init__(self, bar: tqdm[object]) -> None:
        self._bar = bar
        self.errors: list[str] = []

    def tell(self, message: Message) -> None:
        """Take a message."""
        content = message.content
        if content["type"] == "error":
            self.errors.append(str(content["text"]))
        elif content["type"] == "progress" and content["total"]:
            self._bar.total = content["total"]
            self._bar.update(content["done"] - self._bar.n)
