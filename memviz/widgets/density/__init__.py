"""The density explorer: how much more likely each image is to models that were trained on it."""

from ._explorer import DensityExplorer as DensityExplorer
from ._table import DensityTable as DensityTable
from ._table import Estimate as Estimate
from ._table import Nearest as Nearest
from ._view import density as density
