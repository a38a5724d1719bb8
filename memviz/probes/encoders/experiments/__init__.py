"""Experiments: plant an image in a unit, prune units, replace or fine-tune layers."""

from ._injection import Injection as Injection
from ._injection import inject as inject
from ._pruning import Pruning as Pruning
from ._pruning import prune as prune
from ._transplants import fine_tune_layers as fine_tune_layers
from ._transplants import layer_fine_tuning as layer_fine_tuning
from ._transplants import layer_replacement as layer_replacement
from ._transplants import replace_layers as replace_layers
