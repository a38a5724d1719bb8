"""The one ablation engine: record a forward pass, rerun only what is downstream of a change."""

from memviz.engine.activations import binned_mutual_information as binned_mutual_information
from memviz.engine.sets import random_units as random_units
