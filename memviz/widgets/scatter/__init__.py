"""The scatter: any two scores over units against each other."""

from ._scatter import Scatter as Scatter
from ._still import unit_scatter as unit_scatter
from ._view import score_scatter as score_scatter
