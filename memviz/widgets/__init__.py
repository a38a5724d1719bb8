"""Linked widgets on one Session: layer list, unit map, example gallery, readout, workbench."""

from memviz.widgets.deja_vu import DejaVuView, deja_vu
from memviz.widgets.entropy import entropy_view
from memviz.widgets.scatter import score_scatter
from memviz.widgets.workbench import (
    View,
    example_gallery,
    inspector,
    layer_list,
    readout_view,
    timeline,
    unit_map,
    workbench,
)

__all__ = [
    "DejaVuView",
    "View",
    "deja_vu",
    "entropy_view",
    "example_gallery",
    "inspector",
    "layer_list",
    "readout_view",
    "score_scatter",
    "timeline",
    "unit_map",
    "workbench",
]
