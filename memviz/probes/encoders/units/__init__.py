"""Which units memorize an image or a class: UnitMem, ClassMem and their nulls."""

from memviz.training.random_network import random_network as random_network

from ._class_mem import class_mem as class_mem
from ._class_mem import class_selectivity as class_selectivity
from ._peaks import Peaks as Peaks
from ._tensors import class_mem_from_activations as class_mem_from_activations
from ._tensors import unit_mem_from_activations as unit_mem_from_activations
from ._unit_mem import unit_mem as unit_mem
