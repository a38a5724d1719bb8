"""Critical units: the fewest units that flip an example (Maini et al. 2023, section 4.3)."""

from ._critical_units import Method as Method
from ._critical_units import critical_units as critical_units
from ._noise import NoisyBatch as NoisyBatch
from ._search import first_order_search as first_order_search
from ._search import objective_drops as objective_drops
from ._table import CriticalUnits as CriticalUnits
