"""Scores: what every probe returns, a tidy table with its null."""

from ._null import Null as Null
from ._scores import Scores as Scores
