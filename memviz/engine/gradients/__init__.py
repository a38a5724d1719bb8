"""Gradient norms per example, without the gradients of each example."""

from ._norms import GradientNorms as GradientNorms
from ._norms import gradient_norms as gradient_norms
