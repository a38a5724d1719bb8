"""Déjà vu with units of the text or image tower ablated."""

from ._retrieval import UTILITY_FIRST as UTILITY_FIRST
from ._retrieval import Retrieval as Retrieval
from ._retrieval import Retrieved as Retrieved
from ._units import MEASURES as MEASURES
from ._units import GapCurve as GapCurve
from ._units import beyond_held_out as beyond_held_out
from ._units import effect_scores as effect_scores
from ._units import first_units as first_units
from ._units import gap_curve as gap_curve
from ._units import lost_aucg as lost_aucg
from ._units import measured as measured
from ._units import pair_effects as pair_effects
from ._units import random_steps as random_steps
from ._units import unit_effects as unit_effects
from ._units import unit_layers as unit_layers
