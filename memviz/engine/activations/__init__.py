"""Activations of units, streamed over examples."""

from ._histograms import binned_mutual_information as binned_mutual_information
from ._histograms import histogram_tiles as histogram_tiles
from ._histograms import joint_histograms as joint_histograms
from ._statistics import ActivationStatistics as ActivationStatistics
from ._statistics import activation_statistics as activation_statistics
from ._stream import UnitActivations as UnitActivations
from ._top_examples import TopExamples as TopExamples
from ._top_examples import top_example_steps as top_example_steps
from ._top_examples import top_examples as top_examples
