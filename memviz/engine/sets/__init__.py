"""Several units together: ablate, read out, toggle, curve, greedy search."""

from ._ablate import ablate as ablate
from ._curve import AblationCurve as AblationCurve
from ._curve import ablation_curve as ablation_curve
from ._greedy import AblationPath as AblationPath
from ._greedy import greedy as greedy
from ._outputs import SetOutputs as SetOutputs
from ._readout import GroupReading as GroupReading
from ._readout import Reading as Reading
from ._readout import Readout as Readout
from ._readout import others_left as others_left
from ._readout import percent as percent
from ._readout import random_reading as random_reading
from ._readout import random_units as random_units
from ._readout import read as read
from ._readout import readout as readout
from ._toggle import Toggle as Toggle
