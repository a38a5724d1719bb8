"""Déjà vu with units of the text or image tower ablated."""

from ._curve import MEASURES as MEASURES
from ._curve import GapCurve as GapCurve
from ._curve import first_units as first_units
from ._curve import gap_curve as gap_curve
from ._curve import measured as measured
from ._curve import random_steps as random_steps
from ._halves import GapEffects as GapEffects
from ._halves import PairHalf as PairHalf
from ._halves import effect_scores as effect_scores
from ._halves import pair_halves as pair_halves
from ._retrieval import UTILITY_FIRST as UTILITY_FIRST
from ._retrieval import Retrieval as Retrieval
from ._retrieval import Retrieved as Retrieved
from ._units import beyond_held_out as beyond_held_out
from ._units import lost_aucg as lost_aucg
from ._units import pair_effects as pair_effects
from ._units import unit_effects as unit_effects
from ._units import unit_layers as unit_layers
