"""Which FFN neurons of a language model hold a passage (Chang et al. 2024, arXiv:2311.09060).

Five localizers, each a value per neuron and passage, and the two benchmarks of the paper: INJ
writes a passage into neurons that are known, DEL drops out the neurons that a localizer names.
Where we depart from the paper, the functions say so.
"""

from ._activations import activations as activations
from ._activations import attention_heads as attention_heads
from ._activations import zero_out as zero_out
from ._deletion import Deletion as Deletion
from ._deletion import DeletionCurve as DeletionCurve
from ._deletion import deletion as deletion
from ._deletion import deletion_curve as deletion_curve
from ._hard_concrete import hard_concrete as hard_concrete
from ._injection import Injection as Injection
from ._injection import InjectionTable as InjectionTable
from ._injection import inject as inject
from ._injection import injection_benchmark as injection_benchmark
from ._integrated_gradients import integrated_gradients as integrated_gradients
from ._reading import edit_distance as edit_distance
from ._slimming import slimming as slimming
from ._table import NeuronTable as NeuronTable
from ._table import top_per_layer as top_per_layer
