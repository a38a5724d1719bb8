"""The capacity playground: build a memorizer, see which unit owns which points, take it out."""

from ._view import CapacityView as CapacityView
from ._view import capacity as capacity
