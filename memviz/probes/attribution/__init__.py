"""Captum's attributions by name, for any Study: of inputs, of layers, of a single unit."""

from ._attribute import INPUT_METHODS as INPUT_METHODS
from ._attribute import LAYER_METHODS as LAYER_METHODS
from ._attribute import UNIT_METHODS as UNIT_METHODS
from ._attribute import attribute_inputs as attribute_inputs
from ._attribute import attribute_layers as attribute_layers
from ._attribute import attribute_unit as attribute_unit
