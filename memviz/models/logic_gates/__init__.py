"""Networks of logic gates, trained as mixtures of gates and run as circuits.

After "Deep Differentiable Logic Gate Networks" (Petersen et al. 2022) and "Convolutional
Differentiable Logic Gate Networks" (Petersen et al. 2024): a gate is a mixture of the sixteen
functions of two bits while it is trained, and the most probable one of them in evaluation mode.
The wiring is drawn once and stored with the weights. Written anew from the papers' equations, in
the four-coefficient form; which sizes and numbers are the papers', :func:`logic_tree_net` says.
"""

from ._circuit import Circuit as Circuit
from ._gates import COEFFICIENTS as COEFFICIENTS
from ._gates import GATES as GATES
from ._gates import INTERVENTIONS as INTERVENTIONS
from ._gates import TRUTH as TRUTH
from ._gates import Gates as Gates
from ._gates import live_gates as live_gates
from ._layers import DenseGates as DenseGates
from ._layers import GroupSum as GroupSum
from ._layers import Thresholds as Thresholds
from ._layers import TreeConv as TreeConv
from ._networks import SIZES as SIZES
from ._networks import logic_dense_net as logic_dense_net
from ._networks import logic_tree_net as logic_tree_net
from ._packed import PackedNetwork as PackedNetwork
from ._sweep import PackedSweep as PackedSweep
from ._wiring import SETTINGS as SETTINGS
from ._wiring import GateLayer as GateLayer
from ._wiring import Wiring as Wiring
