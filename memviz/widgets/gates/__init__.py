"""The gate map: a network of logic gates, gate by gate."""

from ._curves import GateCurves as GateCurves
from ._view import GateView as GateView
from ._view import gates as gates
