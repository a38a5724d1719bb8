"""Ready studies: real data, a known truth and a trained network, without a download."""

from ._find import demo as demo
from ._find import demos as demos
from ._weight_files import cache_folder as cache_folder
from ._weight_files import damaged_weights as damaged_weights
