"""memviz: see, find and switch off memorization in neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _torchvision

_torchvision.install()

from memviz.demos import demo  # noqa: E402
from memviz.engine.record import (  # noqa: E402  # noqa: E402
    CancelledError,
    Constant,
    Filter,
    Mean,
    Replay,
    Resample,
    Scale,
    Zero,
    layers,
)
from memviz.engine.sets import Readout, ablate, ablation_curve, greedy, readout  # noqa: E402
from memviz.engine.sweep import estimate, sweep, sweep_stream
from memviz.probes.attribution import attribute_inputs, attribute_layers, attribute_unit  # noqa: E402
from memviz.scores import Null, Scores  # noqa: E402
from memviz.session import Session  # noqa: E402
from memviz.study import Study  # noqa: E402
from memviz.tasks.classification import Classification  # noqa: E402
from memviz.tasks.task import Task  # noqa: E402
from memviz.units import Layer, Unit, UnitSet  # noqa: E402

if TYPE_CHECKING:
    from memviz.widgets.deja_vu import deja_vu
    from memviz.widgets.scatter import score_scatter
    from memviz.widgets.workbench import (
        example_gallery,
        inspector,
        layer_list,
        readout_view,
        timeline,
        unit_map,
        workbench,
    )

__version__ = "0.1.0"
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
    "score_scatter",
    "sweep",
    "sweep_stream",
    "timeline",
    "unit_map",
    "workbench",
]
_WIDGETS = {
    "deja_vu",
    "example_gallery",
    "inspector",
    "layer_list",
    "readout_view",
    "score_scatter",
    "timeline",
    "unit_map",
    "workbench",
}


def __getattr__(name: str) -> Any:
    # A script on a cluster should not need a notebook's packages.
    if name in _WIDGETS:
        from memviz import widgets

        return getattr(widgets, name)
    raise AttributeError(f"module 'memviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WIDGETS])
