"""Families of models that memorize more and more: coloured digits, shuffled labels."""

from ._families import FAMILIES as FAMILIES
from ._families import load as load
