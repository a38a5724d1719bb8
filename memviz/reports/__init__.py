"""One page to send: what was asked, what was found, what it costs, and a view that still works."""

from ._halves import Halves as Halves
from ._halves import halves as halves
from ._report import report as report
from ._units import verdict as verdict
