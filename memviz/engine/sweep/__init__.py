"""Each unit alone: estimates, exact effects, their table and its file."""

from ._answers import contrast as contrast
from ._cost import Cost as Cost
from ._cost import cost as cost
from ._effects import Effects as Effects
from ._estimate import ExampleAxes as ExampleAxes
from ._estimate import estimate as estimate
from ._estimate import estimate_effects as estimate_effects
from ._estimate import estimate_steps as estimate_steps
from ._one_at_a_time import Engine as Engine
from ._one_at_a_time import OneAtATime as OneAtATime
from ._steps import batches as batches
from ._steps import default_units as default_units
from ._steps import new_effects as new_effects
from ._steps import sweep_steps as sweep_steps
from ._sweep import sweep as sweep
from ._sweep import sweep_stream as sweep_stream
