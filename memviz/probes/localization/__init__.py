"""Can neural network memorization be localized? The experiments of Maini et al. (2023).

Four ways to find the layers and units that memorize wrong labels (arXiv:2307.09542, ICML 2023):

- :func:`gradient_accounting` and :class:`EpochGradients`: what the wrong labels contribute to each
  layer's gradient, compared with the clean examples;
- :func:`layer_rewinding` and :class:`Rewinder`: what is still known with a layer rewound to an
  earlier epoch;
- :func:`layer_retraining`: what returns when that layer is then trained on clean examples alone;
- :func:`critical_units`: the fewest units that flip an example.

The fifth, example-tied dropout, is a layer to train with: see ``memviz.training``. Definitions
follow the paper's abstract and the released code (pratyushmaini/localizing-memorization, b09ba96),
which was read and not copied; each function says where it departs from it.
"""

from memviz.probes.localization.critical import CriticalUnits as CriticalUnits
from memviz.probes.localization.critical import critical_units as critical_units

from ._epoch_gradients import EpochGradients as EpochGradients
from ._epoch_gradients import subset_gradients as subset_gradients
from ._gradient_accounting import gradient_accounting as gradient_accounting
from ._gradient_table import GradientAccounting as GradientAccounting
from ._layer_groups import LayerGroup as LayerGroup
from ._layer_groups import layer_groups as layer_groups
from ._retraining import EVERYTHING as EVERYTHING
from ._retraining import Retraining as Retraining
from ._retraining import RetrainingSettings as RetrainingSettings
from ._retraining import layer_retraining as layer_retraining
from ._rewinder import Rewinder as Rewinder
from ._rewinding import Rewinding as Rewinding
from ._rewinding import layer_rewinding as layer_rewinding
