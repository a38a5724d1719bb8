"""A valid call of each public function, method and class: taken from the examples in docstrings."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import memviz as mv
import memviz.probes
from memviz.demos import scenes
from memviz.engine import sweep

_MARK = "<fuzz "
_CHECKS = str(Path("memviz", "checks"))
# Methods of these are called; other classes are only made.
_WITH_METHODS = ("Session", "Effects", "Scores", "UnitSet", "Study", "Replay", "Layer")
# Calls that no docstring shows, or that need a form of their own.
_MORE = """
import numpy as np
import torch
import memviz as mv
from memviz.probes.attribution import layer_attributions
from memviz.probes.examples import agreement, scores_of_checkpoints, split_half
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
groups = {"memorized": [0, 1], "clean": [2, 3], "test": [4, 5]}
study = mv.Study(model, torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]), groups,
                 torch.tensor([1, 2, 2, 0, 1, 2]), checkpoints={0: model.state_dict()})
effects = mv.sweep(study, progress=False)
effects.scores("memorized", "clean", "margin")
effects.of_example(2, "margin")
effects.of_unit("0:3", "margin")
effects.lost("memorized")
effects.most_lost(2)
effects.atlas()
scores = effects.scores()
scores.top(2, "units")
scores.order()
scores.plot(4)
mv.ablation_curve(study, scores, [0, 2], "zero", random_draws=2, seed=0)
mv.Scores("name", "measure", np.array([1.0, 2.0]), units=[mv.Unit("0", 0), mv.Unit("0", 1)])
units = mv.UnitSet.parse("0:0-2")
mv.UnitSet.of("0:0-2")
mv.UnitSet({"0": [0, 1]})
mv.UnitSet([mv.Unit("0", 1)])
session = mv.Session(study)
session.ablate("0:1,2", "zero")
session.toggle("0:3")
session.use("zero")
session.look_at("epoch 0")
session.look_at("")
session.show_layers(["0"])
session.select([0, 1])
session.open(1)
session.layer("0")
study.batch(torch.tensor([0, 1]))
study.group("clean")
study.class_name(1)
mv.readout(study, "0:1,2", "zero", random_draws=2, seed=0)
mv.greedy(study, 2, "memorized", "clean", budget=20, random_draws=2, seed=0, progress=False)
mv.estimate(study, "0:0-3", torch.tensor([0, 2]), "zero")
mv.sweep(study, "0:0-3", torch.tensor([0, 2]), "zero", progress=False)
mv.attribute_layers(study, [0, 2], n_steps=4)
mv.attribute_inputs(study, [0, 2], targets=[1, 2], n_steps=4)
mv.attribute_unit(study, "0:1", [0, 2], n_steps=4)
layer_attributions(study, "0", [0, 2], n_steps=4)
agreement(study, [mv.Scores("name", "measure", np.arange(6.0), examples=np.arange(6))])
wide = mv.Study(model, torch.randn(40, 4), torch.arange(40) % 3, {"test": range(40)},
                checkpoints={0: model.state_dict()})
scores_of_checkpoints(wide, torch.tensor([0, 1, 2]), progress=False)
split_half(torch.rand(6, 4) > 0.5, torch.rand(6, 4) > 0.5, draws=2)
mv.workbench(session)
mv.unit_map(session)
mv.layer_list(session)
mv.example_gallery(session)
mv.readout_view(session)
mv.inspector(session)
mv.timeline(session)
mv.demo("digits")
mv.demo("encoders")
"""
# Those with others whose right values would take minutes, or that are words of a message.
_ONLY = {
    "memviz.demo": ("name",),
    "memviz.tasks.as_numbers": ("values",),
    "memviz.tasks.check_labels": ("task", "labels"),
}


@dataclass
class Call:
    """A function with arguments that it takes."""

    name: str
    function: Callable[..., Any]
    values: dict[str, Any]
    annotations: dict[str, str]
    defaults: dict[str, Any]
    extra: tuple[Any, ...] = ()
    positional: tuple[str, ...] = ()

    @property
    def changeable(self) -> list[str]:
        """Names of the arguments that a user may get wrong."""
        only = _ONLY.get(self.name)
        return [name for name in self.annotations if only is None or name in only]

    def run(self, values: dict[str, Any]) -> Any:
        """Call it, and do all that it gives: read what it yields, enter its block."""
        first = [values[name] for name in self.positional]
        rest = {name: value for name, value in values.items() if name not in self.positional}
        result = self.function(*first, *self.extra, **rest)
        if isinstance(result, contextlib.AbstractContextManager) and inspect.isgenerator(
            getattr(result, "gen", None)
        ):
            with result:
                return None
        if inspect.isgenerator(result):
            result = list(result)
        if hasattr(result, "close") and hasattr(result, "session"):
            result.close()
            return None
        return result


def public() -> dict[str, Any]:
    """All that is public, by name: ``mv.*``, tasks, Effects, and what each paper's face offers."""
    papers = [f"memviz.probes.{m.name}" for m in pkgutil.iter_modules(memviz.probes.__path__)]
    names = {f"memviz.{name}": getattr(mv, name) for name in mv.__all__}
    names["memviz.engine.sweep.Effects"] = sweep.Effects
    seen = {id(thing) for thing in names.values()}
    for module in map(importlib.import_module, ["memviz.tasks", *papers]):
        for name, thing in vars(module).items():
            if not name.startswith("_") and id(thing) not in seen:
                names[f"{module.__name__}.{name}"] = thing
                seen.add(id(thing))
    return {
        name: thing
        for name, thing in names.items()
        if callable(thing) and str(getattr(thing, "__module__", "")).startswith("memviz.")
    }


def _targets(things: dict[str, Any]) -> dict[types.CodeType, tuple[str, Any]]:
    """Each function's code with its name and what is called to run it."""
    codes: dict[types.CodeType, tuple[str, Any]] = {}
    for name, thing in things.items():
        if inspect.isfunction(thing):
            codes[inspect.unwrap(thing).__code__] = (name, thing)
        elif inspect.isclass(thing):
            made = inspect.unwrap(vars(thing).get("__init__", object.__init__))
            if inspect.isfunction(made):
                codes[made.__code__] = (name, thing)
            if thing.__name__ in _WITH_METHODS or name.startswith("memviz.tasks"):
                codes |= _methods(name, thing)
    return codes


def _methods(name: str, kind: type) -> dict[types.CodeType, tuple[str, Any]]:
    codes = {}
    for method, found in vars(kind).items():
        raw = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        raw = inspect.unwrap(raw) if callable(raw) else raw
        if not method.startswith("_") and inspect.isfunction(raw):
            codes[raw.__code__] = (f"{name}.{method}", getattr(kind, method))
    return codes


def calls(papers: bool = True) -> list[Call]:
    """A valid call of each public function, class and method that examples show.

    Without ``papers``, those of ``mv.*`` and the tasks alone, of one study, in a few seconds.
    """
    things = public()
    watch = _Watch(_targets(things))
    more = [ast.unparse(statement) for statement in ast.parse(_MORE).body]
    scripts = [("more", {}, more)]
    for name, thing in things.items() if papers else ():
        module = sys.modules[thing.__module__]
        examples = doctest.DocTestParser().get_examples(inspect.getdoc(thing) or "")
        scripts.append((name, dict(vars(module)), [example.source for example in examples]))
    # Several examples ask for it, and it takes seconds.
    kept = scenes.retrieval() if papers else None
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
        mock.patch.object(scenes, "retrieval", return_value=kept),
    ):
        warnings.simplefilter("ignore")
        for name, scope, sources in scripts:
            for source in sources:
                try:
                    watch.run(source, f"{_MARK}{name}>", scope)
                except Exception:
                    if name == "more":
                        raise
        usable = []
        for call in watch.known.values():
            with contextlib.suppress(Exception):  # an example that shows an error
                call.run(call.values)
                usable.append(call)
    return sorted(usable, key=lambda call: call.name)


class _Watch:
    """Runs examples, and keeps the first call of each function."""

    def __init__(self, targets: dict[types.CodeType, tuple[str, Any]]) -> None:
        self.targets, self.known = targets, dict[str, Call]()

    def run(self, source: str, name: str, scope: dict[str, Any]) -> None:
        code = compile(source, name, "exec")
        sys.setprofile(self._see)
        try:
            exec(code, scope)
        finally:
            sys.setprofile(None)

    def _see(self, frame: types.FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_code not in self.targets:
            return
        caller = frame.f_back
        while caller is not None and _CHECKS in caller.f_code.co_filename:
            caller = caller.f_back
        if caller is None or not caller.f_code.co_filename.startswith(_MARK):
            return
        name, function = self.targets[frame.f_code]
        if name not in self.known:
            self.known[name] = _recorded(name, function, frame)
            sys.setprofile(None)  # until the next statement: what it calls is slow to watch


def _recorded(name: str, function: Any, frame: types.FrameType) -> Call:
    code, local = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    names = list(code.co_varnames[:count])
    extra: tuple[Any, ...] = ()
    if code.co_flags & inspect.CO_VARARGS:
        extra = tuple(local[code.co_varnames[count]])
    if inspect.isclass(function) or inspect.ismethod(function):
        names = names[1:]  # the class itself makes or gives it
    values = {key: local[key] for key in names}
    signature = inspect.signature(function)
    annotations = {
        key: str(parameter.annotation)
        for key, parameter in signature.parameters.items()
        if key in values and key != "self"
    }
    defaults = {
        key: parameter.default
        for key, parameter in signature.parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    positional = tuple(
        key
        for key in names
        if key == "self"
        or (
            key in signature.parameters
            and signature.parameters[key].kind
            in (
                inspect.Parameter.POSITIONAL_ONLY,
                *((inspect.Parameter.POSITIONAL_OR_KEYWORD,) if extra else ()),
            )
        )
    )
    return Call(name, function, values, annotations, defaults, extra, positional)
