"""The one ablation engine: record a forward pass, run again what lies downstream of a change."""

from memviz.engine.activations import binned_mutual_information as binned_mutual_information
from memviz.engine.sets import random_units as random_units
