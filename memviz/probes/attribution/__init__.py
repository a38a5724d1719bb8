"""Captum's attributions by name, for any Study: of inputs, of layers, of a single unit."""

from ._attribute import attribute_layers as attribute_layers
from ._attribute import layer_attributions as layer_attributions
from ._inputs import attribute_inputs as attribute_inputs
from ._methods import INPUT_METHODS as INPUT_METHODS
from ._methods import LAYER_METHODS as LAYER_METHODS
from ._methods import RULES as RULES
from ._methods import UNIT_METHODS as UNIT_METHODS
from ._result import Attribution as Attribution
from ._result import Completeness as Completeness
from ._result import LayerAttribution as LayerAttribution
from ._units import attribute_unit as attribute_unit
