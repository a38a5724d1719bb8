"""Networks of logic gates on digits: 20 % wrong labels, memorized; and the published design.

``python -m memviz.demos.gates`` prints the figures of both, ``--json`` as one JSON object.
"""

from ._measures import ablation as ablation
from ._measures import margins as margins
from ._measures import ranking as ranking
from ._recipe import MINUTES as MINUTES
from ._recipe import SHIPPED_SEEDS as SHIPPED_SEEDS
from ._recipe import curves as curves
from ._recipe import design as design
from ._recipe import load as load
from ._recipe import prepare as prepare
from ._truth import TRUTHS as TRUTHS
from ._truth import lookups as lookups
