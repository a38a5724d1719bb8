"""Gradient norms of each example, without the gradients."""

from ._norms import GradientNorms as GradientNorms
from ._norms import gradient_norms as gradient_norms
