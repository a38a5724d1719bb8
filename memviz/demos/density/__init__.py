"""A VAE of digits that has memorized noise, with its trainings on folds at two learning rates.

``python -m memviz.demos.density`` prints what three seeds give; ``--json`` as one JSON object.
"""

from ._measures import MINUTES as MINUTES
from ._measures import SHIPPED_SEEDS as SHIPPED_SEEDS
from ._measures import Summary as Summary
from ._measures import nearest_ratios as nearest_ratios
from ._measures import prepare as prepare
from ._measures import summary as summary
from ._recipe import by_samples as by_samples
from ._recipe import examples as examples
from ._recipe import fits as fits
from ._recipe import load as load
