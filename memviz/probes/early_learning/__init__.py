"""Early learning (Liu et al. 2020): wrong labels are first predicted right, then memorized."""

from ._fractions import PREDICTED as PREDICTED
from ._fractions import Fractions as Fractions
from ._fractions import detected_as_wrong as detected_as_wrong
from ._fractions import three_way as three_way
