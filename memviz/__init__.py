"""memviz: see, find and switch off memorization in neural networks."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _torchvision

_torchvision.install()
if sys.argv[:1] == ["-m"]:
    # A command: idle OpenMP threads must not spin beside its others. Torch reads this only once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from memviz.demos import demo as demo
from memviz.engine.record import CancelledError as CancelledError
from memviz.engine.record import Constant as Constant
from memviz.engine.record import Filter as Filter
from memviz.engine.record import Mean as Mean
from memviz.engine.record import Replay as Replay
from memviz.engine.record import Resample as Resample
from memviz.engine.record import Scale as Scale
from memviz.engine.record import Zero as Zero
from memviz.engine.record import layers as layers
from memviz.engine.sets import Readout as Readout
from memviz.engine.sets import ablate as ablate
from memviz.engine.sets import ablation_curve as ablation_curve
from memviz.engine.sets import greedy as greedy
from memviz.engine.sets import readout as readout
from memviz.engine.sweep import estimate as estimate
from memviz.engine.sweep import sweep as sweep
from memviz.engine.sweep import sweep_stream as sweep_stream
from memviz.probes.attribution import attribute_inputs as attribute_inputs
from memviz.probes.attribution import attribute_layers as attribute_layers
from memviz.probes.attribution import attribute_unit as attribute_unit
from memviz.registry import places
from memviz.scores import Null as Null
from memviz.scores import Scores as Scores
from memviz.session import Session as Session
from memviz.study import Study as Study
from memviz.tasks import Binary as Binary
from memviz.tasks import Classification as Classification
from memviz.tasks import MultiLabel as MultiLabel
from memviz.tasks import Regression as Regression
from memviz.tasks import Task as Task
from memviz.units import Layer as Layer
from memviz.units import Unit as Unit
from memviz.units import UnitSet as UnitSet

if TYPE_CHECKING:
    from memviz.reports import report as report
    from memviz.widgets.deja_vu import deja_vu as deja_vu
    from memviz.widgets.inspector import inspector as inspector
    from memviz.widgets.scatter import score_scatter as score_scatter
    from memviz.widgets.timeline import timeline as timeline
    from memviz.widgets.workbench import example_gallery as example_gallery
    from memviz.widgets.workbench import layer_list as layer_list
    from memviz.widgets.workbench import readout_view as readout_view
    from memviz.widgets.workbench import unit_map as unit_map
    from memviz.widgets.workbench import workbench as workbench

__version__ = "0.2.0"
__all__ = [
    "CancelledError",
    "Classification",
    "Constant",
    "Filter",
    "Layer",
    "Mean",
    "Null",
    "Readout",
    "Replay",
    "Resample",
    "Scale",
    "Scores",
    "Session",
    "Study",
    "Task",
    "Unit",
    "UnitSet",
    "Zero",
    "ablate",
    "ablation_curve",
    "attribute_inputs",
    "attribute_layers",
    "attribute_unit",
    "deja_vu",
    "demo",
    "estimate",
    "example_gallery",
    "greedy",
    "inspector",
    "layer_list",
    "layers",
    "readout",
    "readout_view",
    "report",
    "score_scatter",
    "sweep",
    "sweep_stream",
    "timeline",
    "unit_map",
    "workbench",
]
# Imported when asked for: a script on a cluster should not need a notebook's packages.
_LATER = {name: "memviz.widgets" for name in __all__ if name not in globals()}
_LATER["report"] = "memviz.reports"


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    # The view of a paper is the function named like its folder: mv.density, of widgets/density.
    place = None if name.startswith("_") else places("widgets").get(name)
    if place and hasattr(module := import_module(place), name):
        return getattr(module, name)
    raise AttributeError(f"module 'memviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
