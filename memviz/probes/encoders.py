"""Memorization in self-supervised encoders (Wang et al. 2024, arXiv:2409.19069).

Which units belong to one image (UnitMem) or to one class (ClassMem); which images a target holds
together better than a reference that never saw them (SSLMem), and in which layers (LayerMem, Delta
LayerMem along the data path). Experiments: an image planted in a unit, units taken out by a score,
layers replaced, chosen layers tuned. Any encoder of timm or torchvision, random augmentations as a
function of images and a generator.
"""

from __future__ import annotations

from memviz.probes.encoders_accuracy import ProbeAccuracy
from memviz.probes.encoders_classes import class_mem, class_selectivity
from memviz.probes.encoders_injection import Injection, inject
from memviz.probes.encoders_layers import LayerMem, layer_mem, pooled
from memviz.probes.encoders_null import random_network
from memviz.probes.encoders_path import Point
from memviz.probes.encoders_pruning import Pruning, prune
from memviz.probes.encoders_scores import UnitScores
from memviz.probes.encoders_ssl import ssl_mem
from memviz.probes.encoders_transplants import (
    fine_tune_layers,
    layer_fine_tuning,
    layer_replacement,
    replace_layers,
)
from memviz.probes.encoders_units import unit_mem

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
