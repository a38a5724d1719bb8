"""Units, sets of units, and the layers they belong to."""

from ._layer import Layer as Layer
from ._layer import UnknownLayerError as UnknownLayerError
from ._layer import check_units as check_units
from ._set import UnitSet as UnitSet
from ._set import UnitsLike as UnitsLike
from ._unit import Unit as Unit
