"""Information measures of activations reflect memorization (Bansal et al. 2022).

Two measures of a network's activations over unlabelled examples (arXiv:2210.09404):

- :func:`entropy`: how diverse the activations of a unit are;
- :func:`pair_information`: how much one unit says about another.

A network that has memorized a heuristic has less entropy and more mutual information; one that has
memorized single examples has less mutual information and, with some choices of bin edges, more
entropy. :func:`rank_models` orders a family of models by either. The same measures on plain tensors
are :func:`unit_entropy`, :func:`ksg_mutual_information`, :func:`ksg_matrix` and
:func:`quantile_codes` (for the engine's ``binned_mutual_information``).

Definitions follow the paper's main text and the released code
(technion-cs-nlp/Information-Reflects-Memorization, 9422242), which was read and not copied; each
function says where it departs from it.
"""

from ._activations import UnitValues as UnitValues
from ._activations import Where as Where
from ._activations import unit_values as unit_values
from ._bins import Edges as Edges
from ._bins import bin_ranges as bin_ranges
from ._bins import quantile_codes as quantile_codes
from ._bins import unit_entropy as unit_entropy
from ._entropy import Entropy as Entropy
from ._entropy import entropy as entropy
from ._ksg import ksg_matrix as ksg_matrix
from ._ksg import ksg_mutual_information as ksg_mutual_information
from ._pairs import Estimator as Estimator
from ._pairs import PairInformation as PairInformation
from ._pairs import pair_information as pair_information
from ._ranking import ModelRanking as ModelRanking
from ._ranking import rank_models as rank_models
