"""The workbench: layers, unit map, gallery and readout on one session."""

from ._controller import Controller as Controller
from ._messages import Thumbnails as Thumbnails
from ._messages import group_effect as group_effect
from ._scores import Audience as Audience
from ._scores import ShownScores as ShownScores
from ._still import picture as picture
from ._view import View as View
from ._view import example_gallery as example_gallery
from ._view import layer_list as layer_list
from ._view import readout_view as readout_view
from ._view import shown_controller as shown_controller
from ._view import unit_map as unit_map
from ._view import workbench as workbench
