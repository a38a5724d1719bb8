"""Gradient norms per example without the gradients of each, and inner products of gradients."""

from ._norms import GradientNorms as GradientNorms
from ._norms import gradient_norms as gradient_norms
from ._products import gradient_products as gradient_products
