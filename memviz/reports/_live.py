"""The live page: a view of the study that answers clicks on single units without a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

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
    controller = Controller(Session(study), threaded=False)
    with _computed(controller, progress=progress):
        view = saved("workbench", controller.snapshot())
    return Swept(view, controller.effects[controller.key])


def live_retrieval(retrieval: Retrieval, *, progress: bool) -> Saved:
    """The déjà vu explorer of a retrieval."""
    controller = DejaVuController(retrieval, Session(retrieval.study), threaded=False)
    with _computed(controller, progress=progress):
        controller.find_alone(progress=progress)  # after the sweep, which says which units
        return saved("deja_vu", controller.snapshot())


@contextmanager
def _computed(controller: Telling, *, progress: bool) -> Iterator[None]:
    """Let a controller do all its work in this thread; close it at the end of the block."""
    with (
        closing(controller),
        tqdm(desc="sweep", unit="unit", disable=not progress, leave=False) as bar,
    ):
        ear = _Ear(bar)
        controller.sinks.append(ear)
        controller.receive({"type": "hello"}, ear)
        controller.worker.run_until_idle()
        ear.check(controller)
        yield
        ear.check(controller)


class _Ear:
    """Hears what a browser would be told: progress, and what went wrong."""

    def __init__(self, bar: tqdm[object]) -> None:
        self._bar = bar
        self.errors: list[str] = []

    def check(self, controller: Telling) -> None:
        """Raise what a browser would be told went wrong."""
        if self.errors:
            raise RuntimeError(self.errors[0]) from controller.failure

    def tell(self, message: Message) -> None:
        """Take a message."""
        content = message.content
        if content["type"] == "error":
            self.errors.append(str(content["text"]))
        elif content["type"] == "progress" and content["total"]:
            self._bar.total = content["total"]
            self._bar.update(content["done"] - self._bar.n)
