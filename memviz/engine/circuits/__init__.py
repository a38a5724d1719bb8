"""Hard networks of logic gates: readings with gates set one by one, random gates, traces."""

from ._random import has_random as has_random
from ._random import random_settings as random_settings
from ._readings import CircuitReading as CircuitReading
from ._readings import CircuitStudy as CircuitStudy
from ._readings import GroupVotes as GroupVotes
from ._readings import TruthTable as TruthTable
from ._trace import Trace as Trace
from ._trace import Traced as Traced
from ._trace import trace as trace
