"""Memorization in self-supervised encoders (Wang et al. 2024, arXiv:2409.19069).

Which units respond to a single image (UnitMem) or a single class (ClassMem); which images a target
encoder aligns better than a reference that never saw them (SSLMem), and in which layers (LayerMem,
Delta LayerMem along the data path). Experiments: plant an image in a unit, prune units by a score,
replace layers, fine-tune chosen layers. Works with any encoder of timm or torchvision;
augmentations are a function of images and a generator. Activations and features that are already
there go into :func:`unit_mem_from_activations`, :func:`class_mem_from_activations` and
:func:`layer_mem_from_features`.
"""

from memviz.probes.encoders.experiments import Injection as Injection
from memviz.probes.encoders.experiments import Pruning as Pruning
from memviz.probes.encoders.experiments import fine_tune_layers as fine_tune_layers
from memviz.probes.encoders.experiments import inject as inject
from memviz.probes.encoders.experiments import layer_fine_tuning as layer_fine_tuning
from memviz.probes.encoders.experiments import layer_replacement as layer_replacement
from memviz.probes.encoders.experiments import prune as prune
from memviz.probes.encoders.experiments import replace_layers as replace_layers
from memviz.probes.encoders.layers import LayerMem as LayerMem
from memviz.probes.encoders.layers import Point as Point
from memviz.probes.encoders.layers import layer_mem as layer_mem
from memviz.probes.encoders.layers import layer_mem_from_features as layer_mem_from_features
from memviz.probes.encoders.layers import pooled as pooled
from memviz.probes.encoders.layers import ssl_mem as ssl_mem
from memviz.probes.encoders.units import class_mem as class_mem
from memviz.probes.encoders.units import (
    class_mem_from_activations as class_mem_from_activations,
)
from memviz.probes.encoders.units import class_selectivity as class_selectivity
from memviz.probes.encoders.units import random_network as random_network
from memviz.probes.encoders.units import unit_mem as unit_mem
from memviz.probes.encoders.units import unit_mem_from_activations as unit_mem_from_activations

from ._accuracy import ProbeAccuracy as ProbeAccuracy
from ._modules import layer_modules as layer_modules
from ._scores import UnitScores as UnitScores
from ._scores import training_examples as training_examples
