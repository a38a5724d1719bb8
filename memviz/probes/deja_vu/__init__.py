"""Déjà vu in vision-language models (Jayaraman et al. 2024): a caption finds its image's objects.

The caption of a training pair is embedded, its nearest public images are looked up, and their
objects are compared with those of the pair's own image. Whatever a model of the same recipe,
trained without the pair, finds as well can be inferred from the caption; the gap between the two
models is memorization.

Departures from the authors' code (facebookresearch/VLMDejaVu): AUCG is the exact difference of the
mean recalls; pairs without objects are left out before sorting, not after; labels can be ranked by
the number of neighbours that show them, which gives a much cleaner gap than their union; pairs can
be sorted by the recall gap, since a raw count favours crowded images. What ties for the last places
of a cut, objects or pairs, shares them, so that neither label numbers nor the order of rows matter.
"""

from memviz.probes.deja_vu.ablation import GapCurve as GapCurve
from memviz.probes.deja_vu.ablation import GapEffects as GapEffects
from memviz.probes.deja_vu.ablation import PairHalf as PairHalf
from memviz.probes.deja_vu.ablation import Retrieval as Retrieval
from memviz.probes.deja_vu.ablation import Retrieved as Retrieved
from memviz.probes.deja_vu.ablation import beyond_held_out as beyond_held_out
from memviz.probes.deja_vu.ablation import gap_curve as gap_curve
from memviz.probes.deja_vu.ablation import pair_effects as pair_effects
from memviz.probes.deja_vu.ablation import pair_halves as pair_halves
from memviz.probes.deja_vu.ablation import unit_effects as unit_effects
from memviz.probes.deja_vu.ablation import unit_layers as unit_layers

from ._duplicates import Duplicates as Duplicates
from ._duplicates import duplicates as duplicates
from ._duplicates import near_duplicates as near_duplicates
from ._embedded import Embedded as Embedded
from ._embedded import embedded_by as embedded_by
from ._gaps import gaps as gaps
from ._gaps import gaps_of_means as gaps_of_means
from ._gaps import summary as summary
from ._gaps import survival as survival
from ._objects import Predictions as Predictions
from ._objects import neighbour_changes as neighbour_changes
from ._objects import predict as predict
from ._objects import predicted_objects as predicted_objects
from ._sorts import MEASURES as MEASURES
from ._table import DejaVu as DejaVu
from ._two_model import retest as retest
from ._two_model import two_model_test as two_model_test
from ._utility import by_chance as by_chance
from ._utility import linear_probe as linear_probe
from ._utility import precision_of_first as precision_of_first
from ._utility import zero_shot as zero_shot
