"""Between a Session and its views: what to compute when, and what to tell the browser."""

from __future__ import annotations

import reprlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch

from memviz import export
from memviz.engine.effects import Effects
from memviz.engine.estimate import estimate_effects
from memviz.engine.interventions import intervention
from memviz.engine.readout import Readout, random_reading, random_units, read
from memviz.engine.runner import CancelledError
from memviz.engine.sweep import default_units, new_effects, sweep_steps
from memviz.probes.attribution import attribute_inputs, attribute_layers
from memviz.scores import Scores
from memviz.session import Session
from memviz.units import UnitSet
from memviz.widgets import messages
from memviz.widgets.messages import Message
from memviz.widgets.pictures import Pictures
from memviz.widgets.worker import Worker

RANDOM_DRAWS = 20
_TELL_EVERY = 0.15  # s between two progress messages
_CONDUCTANCE_EXAMPLES = 24
_INTERVENTIONS = [
    {"key": "zero", "label": "zero"},
    {"key": "mean", "label": "mean"},
    {"key": "filter", "label": "filter"},
]
_METHODS = [
    {"key": "integrated_gradients", "label": "integrated gradients"},
    {"key": "saliency", "label": "saliency"},
    {"key": "input_x_gradient", "label": "input × gradient"},
    {"key": "occlusion", "label": "occlusion"},
]


class Sink(Protocol):
    """A view that takes messages."""

    def tell(self, message: Message) -> None:
        """Send one."""


class Controller:
    """One for each session: answers what views ask, keeps long work in the background.

    Parameters
    ----------
    session : Session
    scores : dict of key to Scores, optional
        Further unit scores that the unit map can wear.
    threaded : bool
        False computes only when ``worker.run_until_idle()`` is called.
    """

    def __init__(
        self, session: Session, scores: dict[str, Scores] | None = None, *, threaded: bool = True
    ) -> None:
        self.session = session
        self.pictures = Pictures.of(session.study)
        self.extra = dict(scores or {})
        self.sinks: list[Sink] = []
        self.worker = Worker(self._failed, threaded=threaded)
        self.score, self.method = "effect", "integrated_gradients"
        self.top: int | None = None
        self.effects: dict[str, Effects] = {}
        self.estimates: dict[str, Effects] = {}
        self.readout: Readout | None = None
        self._latest: dict[str, Message] = {}
        self._ranked: tuple[UnitSet, str] | None = None  # units and intervention that `top` means
        self._swept = ""  # the intervention last swept, to its end or until it was cancelled
        self._told = 0.0
        self._told_how = ""  # the intervention whose effects the views show
        self._units = default_units(session.known)
        self._first = next(iter(session.study.groups))
        self._unwatch = session.watch(self._changed)

    # What views ask -----------------------------------------------------------------------------

    def receive(self, content: dict[str, Any], sink: Sink) -> None:
        """Take one message of a view; a bad one is answered by one clear line."""
        try:
            kind = content.get("type") if isinstance(content, dict) else None
            action = _ACTIONS.get(str(kind))
            if action is None:
                raise ValueError(
                    f"the widget asked for {reprlib.repr(kind)}, which memviz does not know."
                )
            _check_fields(str(kind), content)
            action(self, content, sink)
        except Exception as error:
            sink.tell(_error(error))
            sink.tell(self.state_message())

    def hello(self, sink: Sink) -> None:
        """Tell a new view everything."""
        sink.tell(self.study_message())
        sink.tell(self.state_message())
        for message in messages.sprite_messages(self.pictures):
            sink.tell(message)
        for key, message in list(self._latest.items()):
            if key not in ("study", "state"):
                sink.tell(message)
        if self.readout is None:
            self._answer_state()
        self._sweep_if_new()

    def take(self, effects: Effects) -> None:
        """Use the effects of a sweep already made."""
        whole = list(effects.units) == self._units and torch.equal(
            effects.examples, self.session.replay.examples
        )
        if effects.study is not self.session.study or not whole or effects.path == "estimate":
            raise ValueError(
                "these effects are not of a sweep over all units and examples of this study; "
                "make them by mv.sweep(study), or leave effects out."
            )
        self.effects[effects.how] = effects

    def ready(self) -> None:
        """Wait for the first readout, so that there is something to draw without a browser."""
        if self.readout is not None:
            return
        done = threading.Event()

        def steps() -> Iterator[None]:
            try:
                self._compute_readout()
                yield
            finally:
                done.set()

        if self.worker.threaded and not self.worker.closed:
            self.worker.work("ready", steps(), rank=-1)
            done.wait()
        else:
            list(steps())

    def close(self) -> None:
        """End the thread; the session goes on."""
        self._unwatch()
        self.worker.close()

    def _toggle(self, content: dict[str, Any], sink: Sink) -> None:
        self.session.toggle(str(content["units"]))

    def _set(self, content: dict[str, Any], sink: Sink) -> None:
        self.session.ablate(str(content["units"]))

    def _ablate_top(self, content: dict[str, Any], sink: Sink) -> None:
        k = int(content["k"])
        ranked = self._ranking()
        if not 0 <= k <= len(ranked):
            raise ValueError(f"{k} units were asked for; {len(ranked)} have a score to rank by.")
        units = UnitSet([self._units[row] for row in ranked[:k]])
        self.top, self._ranked = k, (units, self.session.how)
        version = self.session.version
        self.session.ablate(units)
        if self.session.version == version:  # the same units as before: only k is new
            self.broadcast(self.state_message())

    def _layers(self, content: dict[str, Any], sink: Sink) -> None:
        self.session.show_layers([str(name) for name in content["names"]])

    def _intervention(self, content: dict[str, Any], sink: Sink) -> None:
        self.session.use(str(content["key"]))

    def _score(self, content: dict[str, Any], sink: Sink) -> None:
        key = str(content["key"])
        if key not in {score["key"] for score in self._score_list()}:
            raise ValueError(f"there is no score {key!r} to show.")
        if key != self.score:
            self.top = self._ranked = None
        self.score = key
        self.broadcast(self.state_message())
        self._show_score()

    def _method(self, content: dict[str, Any], sink: Sink) -> None:
        key = str(content["key"])
        if key not in {method["key"] for method in self._methods()}:
            raise ValueError(f"there is no attribution method {key!r} to show.")
        self.method = key
        self.broadcast(self.state_message())
        self._start_example()

    def _open(self, content: dict[str, Any], sink: Sink) -> None:
        example = content.get("example")
        self.session.open(None if example is None else int(example))

    def _cancel(self, content: dict[str, Any], sink: Sink) -> None:
        self.worker.drop("sweep")
        self.worker.drop("score")
        # Told by the thread itself, after whatever the step now running still has to say.
        self.worker.work("idle", self._idle_steps(), rank=0)

    def _code(self, content: dict[str, Any], sink: Sink) -> None:
        sink.tell(Message({"type": "code", "text": self.session.to_code()}, []))

    def _export(self, content: dict[str, Any], sink: Sink) -> None:
        path = export.free_path(f"memviz-{self.session.study.name}.html")
        self.export(path)
        sink.tell(Message({"type": "exported", "text": f"Saved as {path.name}."}, []))

    def export(self, path: Any) -> None:
        """Write a page that shows the present state without a kernel."""
        export.page(path, self.session.study.name, "workbench", self.snapshot())

    def snapshot(self) -> list[Message]:
        """Everything a view was told, newest of each kind."""
        self.ready()
        first = [self.study_message(), self.state_message()]
        rest = [m for key, m in list(self._latest.items()) if key not in ("study", "state")]
        return [*first, *messages.sprite_messages(self.pictures), *rest]

    # What changes ------------------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        if (self.session.units, self.session.how) != self._ranked:
            self.top = self._ranked = None
        self.broadcast(self.state_message())
        if what == "examples":
            self._start_example()
            if self.score == "conductance":
                self._show_score()
            return
        shown = self.readout
        if shown is None or (shown.units, shown.how) != (self.session.units, self.session.how):
            self._answer_state()
        else:
            self._restate(shown)
        if self.session.how != self._told_how and self.score in ("effect", "estimate"):
            self._show_score()
        self._sweep_if_new()

    def _restate(self, shown: Readout) -> None:
        # The ablation came back to what stands there: only its version is new.
        self.worker.answer(lambda: self._tell_readout(shown, self.session.version))

    def _answer_state(self) -> None:
        self.worker.answer(self._compute_readout)

    def _compute_readout(self) -> None:
        session = self.session
        version, units, how = session.version, session.units, session.how
        kind = intervention(how)
        try:
            outputs = session.replay.outputs(
                units, kind, stop=lambda: self.worker.answer_waits, keep=True
            )
        except CancelledError:
            return  # a newer answer waits
        self._tell_readout(read(session.replay, units, outputs, kind), version)

    def _tell_readout(self, readout: Readout, version: int) -> None:
        self.readout = readout
        self._latest.pop("random", None)
        self.worker.drop("random")
        self.broadcast(self._keep(messages.readout_message(readout, version)))
        if readout.units:
            self.worker.work("random", self._random_steps(readout, version), rank=1)
        self._start_example()

    def _random_steps(self, readout: Readout, version: int) -> Iterator[None]:
        replay, kind = self.session.replay, intervention(readout.how)
        draws: list[dict[str, tuple[float, float]]] = []
        for draw in range(RANDOM_DRAWS):
            units = random_units(replay.layers, readout.units, seed=draw)
            try:
                reading = random_reading(replay, units, kind, lambda: self.worker.answer_waits)
            except CancelledError:
                return
            draws.append(reading)
            if len(draws) in (1, 5, RANDOM_DRAWS):
                readout.random = {n: np.array([d[n] for d in draws]) for n in readout.groups}
                count = len(readout.units)
                message = messages.random_message(draws, version, count, RANDOM_DRAWS)
                self.broadcast(self._keep(message))
            yield

    # Scores ------------------------------------------------------------------------------------

    def _sweep_if_new(self) -> None:
        # A cancelled sweep stays cancelled until another intervention was looked at.
        how = self.session.how
        if how != self._swept:
            self._swept = how
            self.worker.work("sweep", self._sweep_steps(how), rank=3)

    def _sweep_steps(self, how: str) -> Iterator[None]:
        replay, kind = self.session.replay, intervention(how)
        if how not in self.estimates:
            self.estimates[how] = estimate_effects(replay, self._units, kind)
            self._tell_effects(how)
            yield
        if how not in self.effects:
            self.effects[how] = new_effects(replay, self._units, kind)
        effects, total = self.effects[how], len(self._units)
        ranked = np.argsort(-messages.contrast(self.estimates[how]), kind="stable")
        order = ranked[~effects.done.numpy()[ranked]].tolist()  # what an earlier sweep left
        told = time.monotonic()
        for done in sweep_steps(replay, effects, kind, order) if order else ():
            if time.monotonic() - told > _TELL_EVERY * 4:
                self._tell_effects(how)
                told = time.monotonic()
            self._tell_progress("sweep", "exact for", total - len(order) + int(done), total)
            yield
        self._tell_effects(how)
        self.broadcast(_progress("sweep", 0, 0))

    def _idle_steps(self) -> Iterator[None]:
        self.broadcast(_progress("", 0, 0))
        yield

    def _tell_effects(self, how: str) -> None:
        if how != self.session.how:
            return
        self._told_how = how
        names = list(self.session.study.groups)
        against = f" against {names[1]}" if len(names) > 1 else ""
        measure = f"logits of margin lost, mean of {names[0]}" + (
            f" − mean of {names[1]}" if against else ""
        )
        exact, estimate = self.effects.get(how), self.estimates[how]
        label = f"exact effect on {names[0]}{against}"
        message = messages.effects_message("effect", label, exact, estimate, measure, how)
        self.broadcast(self._keep(message, "scores:effect"))
        label = f"estimate: gradient × activation on {names[0]}{against}"
        message = messages.effects_message("estimate", label, None, estimate, measure, how)
        self.broadcast(self._keep(message, "scores:estimate"))

    def _show_score(self) -> None:
        if self.score in ("effect", "estimate"):
            if self.session.how in self.estimates:
                self._tell_effects(self.session.how)
        elif self.score == "conductance":
            self.worker.work("score", self._conductance_steps(), rank=2)
        else:
            self.broadcast(self._keep(self._extra_message(self.score), f"scores:{self.score}"))

    def _conductance_steps(self) -> Iterator[None]:
        study, opened = self.session.study, self.session.opened
        examples = (
            study.group(self._first)[:_CONDUCTANCE_EXAMPLES]
            if opened is None
            else torch.tensor([opened])
        )
        whose = "the opened example" if opened is not None else f"{len(examples)} {self._first}"
        value = np.full(len(self._units), np.nan, np.float32)
        layers = [layer for layer in self.session.known if layer.kind != "heads"]
        for count, layer in enumerate(layers):
            scores = attribute_layers(study, examples, layers=[layer.name], null_draws=0)
            start = self._units.index(next(iter(layer.all())))
            value[start : start + layer.units] = scores.values
            self._tell_progress("score", "conductance of layer", count, len(layers))
            yield
        content: dict[str, Any] = {
            "type": "scores",
            "key": "conductance",
            "kind": "other",
            "note": "",
        }
        content |= {"label": f"Captum conductance of {whose}", "done": len(value)}
        content |= {"measure": "logits of the given label", "total": len(value)}
        state = np.where(np.isnan(value), 0, 2).astype(np.uint8)
        message = messages.pack(content, value=value, state=state)
        self.broadcast(self._keep(message, "scores:conductance"))
        self.broadcast(_progress("score", 0, 0))

    def _extra_message(self, key: str) -> Message:
        scores = self.extra[key]
        if scores.units is None:
            raise ValueError(f"score {key!r} is over examples; the unit map wears scores of units.")
        known = dict(zip(scores.units, scores.values, strict=True))
        value = np.array([known.get(unit, np.nan) for unit in self._units], np.float32)
        content: dict[str, Any] = {
            "type": "scores",
            "key": key,
            "label": scores.name,
            "kind": "other",
        }
        content |= {"measure": scores.measure, "done": len(known), "note": scores.higher}
        state = np.where(np.isnan(value), 0, 2).astype(np.uint8)
        return messages.pack({**content, "total": len(value)}, value=value, state=state)

    def _ranking(self) -> list[int]:
        """Rows from the highest score down; an estimate is never ranked among exact effects."""
        key = "scores:" + self.score
        if key not in self._latest:
            return []
        content, buffers = self._latest[key]
        if self.score in ("effect", "estimate") and content["note"] != self.session.how:
            return []  # still those of another intervention
        value = np.frombuffer(buffers[0], np.float32)
        state = np.frombuffer(buffers[1], np.uint8)
        known = np.flatnonzero((state >= (2 if self.score == "effect" else 1)) & ~np.isnan(value))
        ranked: list[int] = known[np.argsort(-value[known], kind="stable")].tolist()
        return ranked

    # The opened example --------------------------------------------------------------------------

    def _start_example(self) -> None:
        if self.session.opened is None:
            self.worker.drop("example")
        else:
            self.worker.work("example", self._example_steps(self.session.opened), rank=0)

    def _example_steps(self, index: int) -> Iterator[None]:
        session, study = self.session, self.session.study
        version, units, how, method = session.version, session.units, session.how, self.method
        chosen = torch.tensor([index])
        label = int(study.labels[index])
        content = {"type": "example", "index": index, "version": version, "method": method}
        content |= {"target": label, "words": self._method_words(method)}
        names = [n for n, mask in study.groups.items() if mask[index]]
        content["group"] = names[0] if names else ""
        content["truth"] = None if study.true_labels is None else int(study.true_labels[index])
        with torch.no_grad():
            before = session.replay.clean[index]
            after = session.replay.outputs(units, how)[index]
        content |= {"before": int(before.argmax()), "after": int(after.argmax())}
        arrays = {"image": self.pictures.full(chosen)[0]}
        if before.dim() == 1:
            arrays["prob_before"] = before.softmax(0).float().cpu().numpy()
            arrays["prob_after"] = after.softmax(0).float().cpu().numpy()
        yield
        if method in {known["key"] for known in self._methods()}:
            arrays["attr_before"] = self._map(attribute_inputs(study, chosen, method))
            yield
            arrays["attr_after"] = (
                self._map(attribute_inputs(study, chosen, method, units=units, how=how))
                if units
                else arrays["attr_before"]
            )
        if session.opened == index:
            self.broadcast(self._keep(messages.pack(content, **arrays)))

    def _map(self, attribution: torch.Tensor) -> np.ndarray:
        found = attribution[0].float().cpu()
        return np.asarray((found.sum(0) if found.dim() == 3 else found).numpy(), np.float32)

    def _method_words(self, method: str) -> str:
        steps = ", baseline zero" if method == "integrated_gradients" else ""
        return f"Captum {method.replace('_', ' ')}{steps}"

    # What there is to pick -----------------------------------------------------------------------

    def _score_list(self) -> list[dict[str, str]]:
        names = list(self.session.study.groups)
        against = f" against {names[1]}" if len(names) > 1 else ""
        found = [
            {"key": "effect", "label": f"exact effect on {names[0]}{against}", "kind": "exact"},
            {"key": "estimate", "label": "gradient × activation", "kind": "estimate"},
        ]
        if self._floating:
            label = "Captum conductance"
            found.append({"key": "conductance", "label": label, "kind": "other"})
        found += [{"key": k, "label": s.name, "kind": "other"} for k, s in self.extra.items()]
        return [{**score, "measure": ""} for score in found]

    def _how_list(self) -> list[dict[str, str]]:
        keys = {entry["key"] for entry in _INTERVENTIONS}
        how = self.session.how
        return [*_INTERVENTIONS, *([] if how in keys else [{"key": how, "label": how}])]

    @property
    def _floating(self) -> bool:
        inputs = self.session.study.inputs
        return isinstance(inputs, torch.Tensor) and inputs.is_floating_point()

    def _methods(self) -> list[dict[str, str]]:
        inputs = self.session.study.inputs
        images = isinstance(inputs, torch.Tensor) and inputs.dim() == 4
        return _METHODS if images and self._floating else []

    # Telling -------------------------------------------------------------------------------------

    def study_message(self) -> Message:
        """What never changes."""
        picks = self._score_list(), self._how_list(), self._methods()
        return self._keep(messages.study_message(self.session, self.pictures, *picks))

    def state_message(self) -> Message:
        """What the user is looking at."""
        session = self.session
        content = {"type": "state", "version": session.version, "layers": list(session.layers)}
        content |= {"units": str(session.units), "intervention": session.how, "score": self.score}
        content |= {"method": self.method, "opened": session.opened, "top": self.top}
        content |= {"undo": session.can_undo, "redo": session.can_redo}
        return self._keep(Message(content, []))

    def broadcast(self, message: Message) -> None:
        """Tell every view."""
        for sink in list(self.sinks):
            sink.tell(message)

    def _keep(self, message: Message, key: str | None = None) -> Message:
        self._latest[key or message.content["type"]] = message
        return message

    def _tell_progress(self, job: str, words: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told > _TELL_EVERY:
            self._told = now
            self.broadcast(_progress(job, done, total, words))

    def _failed(self, error: Exception) -> None:
        self.broadcast(_error(error))
        self.broadcast(_progress("", 0, 0))


def _error(error: Exception) -> Message:
    text = str(error) or type(error).__name__
    return Message({"type": "error", "text": text.splitlines()[0]}, [])


def _check_fields(kind: str, content: dict[str, Any]) -> None:
    if kind in _FIELDS:
        field, types, words = _FIELDS[kind]
        if not isinstance(content.get(field), types):
            given = reprlib.repr(content.get(field))
            raise ValueError(f"{kind!r} needs {field!r}, {words}; {given} was given.")


def _progress(job: str, done: int, total: int, words: str = "") -> Message:
    return Message(
        {"type": "progress", "job": job, "words": words, "done": done, "total": total}, []
    )


_ACTIONS: dict[str, Callable[[Controller, dict[str, Any], Sink], None]] = {
    "hello": lambda c, m, sink: c.hello(sink),
    "toggle": Controller._toggle,
    "set": Controller._set,
    "top": Controller._ablate_top,
    "layers": Controller._layers,
    "intervention": Controller._intervention,
    "score": Controller._score,
    "method": Controller._method,
    "open": Controller._open,
    "undo": lambda c, m, sink: c.session.undo(),
    "redo": lambda c, m, sink: c.session.redo(),
    "reset": lambda c, m, sink: c.session.reset(),
    "cancel": Controller._cancel,
    "code": Controller._code,
    "export": Controller._export,
}
_FIELDS: dict[str, tuple[str, tuple[type, ...], str]] = {
    "toggle": ("units", (str,), "a text"),
    "set": ("units", (str,), "a text"),
    "top": ("k", (int,), "a whole number"),
    "layers": ("names", (list,), "a list of names"),
    "intervention": ("key", (str,), "a text"),
    "score": ("key", (str,), "a text"),
    "method": ("key", (str,), "a text"),
    "open": ("example", (int, type(None)), "a whole number or nothing"),
}
