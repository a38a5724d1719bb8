"""Memorization in self-supervised encoders (Wang et al. 2024, arXiv:2409.19069).

Which units belong to one image (UnitMem) or to one class (ClassMem); which images a target holds
together better than a reference that never saw them (SSLMem), and in which layers (LayerMem, Delta
LayerMem along the data path). Experiments: an image planted in a unit, units taken out by a score,
layers replaced, chosen layers tuned. Any encoder of timm or torchvision, random augmentations as a
function of images and a generator.
"""

from __future__ import annotations

from memviz.probes.encoders.experiments import (
    Injection,
    Pruning,
    fine_tune_layers,
    inject,
    layer_fine_tuning,
    layer_replacement,
    prune,
    replace_layers,
)
from memviz.probes.encoders.layers import LayerMem, Point, layer_mem, pooled, ssl_mem
from memviz.probes.encoders.units import class_mem, class_selectivity, random_network, unit_mem

from ._accuracy import ProbeAccuracy
from ._scores import UnitScores

__all__ = [
    "Injection",
    "LayerMem",
    "Point",
    "ProbeAccuracy",
    "Pruning",
    "UnitScores",
    "class_mem",
    "class_selectivity",
    "fine_tune_layers",
    "inject",
    "layer_fine_tuning",
    "layer_mem",
    "layer_replacement",
    "pooled",
    "prune",
    "random_network",
    "replace_layers",
    "ssl_mem",
    "unit_mem",
]
from ._modules import layer_modules as layer_modules
from ._scores import training_examples as training_examples
