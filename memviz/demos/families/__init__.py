"""Families of models that memorize more and more: coloured digits, shuffled labels."""

from ._families import FAMILIES as FAMILIES
from ._families import accuracies as accuracies
from ._families import keep as keep
from ._families import load as load
from ._measures import measures as measures
