"""Units, sets of units, and the layers they belong to."""

from ._declared import DeclaredUnits as DeclaredUnits
from ._declared import Declarer as Declarer
from ._declared import Live as Live
from ._declared import declared_units as declared_units
from ._declared import declarers as declarers
from ._layer import Layer as Layer
from ._layer import UnknownLayerError as UnknownLayerError
from ._layer import check_units as check_units
from ._marks import Marked as Marked
from ._marks import units_of as units_of
from ._set import UnitSet as UnitSet
from ._set import UnitsLike as UnitsLike
from ._unit import Unit as Unit
from ._words import LayerWords as LayerWords
from ._words import layer_words as layer_words
from ._words import unit_words as unit_words
