"""Linked widgets on one Session: layer list, unit map, example gallery, readout, workbench."""

from memviz.widgets.deja_vu import DejaVuView as DejaVuView
from memviz.widgets.deja_vu import deja_vu as deja_vu
from memviz.widgets.entropy import entropy_view as entropy_view
from memviz.widgets.inspector import inspector as inspector
from memviz.widgets.scatter import score_scatter as score_scatter
from memviz.widgets.timeline import timeline as timeline
from memviz.widgets.workbench import View as View
from memviz.widgets.workbench import example_gallery as example_gallery
from memviz.widgets.workbench import layer_list as layer_list
from memviz.widgets.workbench import readout_view as readout_view
from memviz.widgets.workbench import unit_map as unit_map
from memviz.widgets.workbench import workbench as workbench
