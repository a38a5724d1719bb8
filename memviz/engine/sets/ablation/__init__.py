"""Units ablated in whatever this thread calls, while ``mv.ablate`` blocks run."""

from ._block import Block as Block
from ._force import in_force as in_force
from ._force import plain as plain
from ._weights import is_layer as is_layer
from ._weights import unit_axis as unit_axis
