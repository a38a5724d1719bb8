"""Capacity: how many units memorizing takes, and what memorizers say of examples never seen.

After "Small ReLU networks are powerful memorizers" (Yun et al. 2019) and "Generalizability of
Memorization Neural Networks" (Yu et al. 2024). The networks are built by
:func:`memviz.models.memorizers.construct_memorizer`; here they are counted, judged and verified
beside trained ones. Each line says whether it is a theorem, our own derivation, or measured.
"""

from ._balls import Certificates as Certificates
from ._balls import certificates as certificates
from ._balls import covered as covered
from ._clusters import cluster_curve as cluster_curve
from ._clusters import coupon_bound as coupon_bound
from ._clusters import planted_clusters as planted_clusters
from ._compare import compare_memorizers as compare_memorizers
from ._compare import precision as precision
from ._counts import hidden_units as hidden_units
from ._counts import necessary as necessary
from ._counts import units_by_points as units_by_points
from ._trained import trained as trained
from ._trained import trained_networks as trained_networks
from ._trained import training_steps as training_steps
from ._trained import units_by_training as units_by_training
from ._trained import width_search as width_search
from ._trained import width_test as width_test
