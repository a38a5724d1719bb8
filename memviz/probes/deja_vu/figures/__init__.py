"""Figures of déjà vu."""

from ._curve import gap_curve as gap_curve
from ._gaps import curve as curve
from ._gaps import gaps as gaps
from ._gaps import most_memorized as most_memorized
from ._mitigation import mitigation as mitigation
from ._neighbours import OTHER as OTHER
from ._neighbours import OWN as OWN
from ._neighbours import neighbours as neighbours
