"""The contest: localizers of memorizing units, judged where the truth is known.

Each localizer names as many units as were planted. It is judged by the share of planted units
among them (recall), by the accuracy that their joint, exact ablation takes from the memorized
examples and from all others, and by its run time. Where no truth is known, only the ablation
counts. These are the two benchmarks of Chang et al. 2024 (arXiv:2311.09060), who inject memories
into language models and measure recall (INJ), or ablate the named units and measure what is lost
(DEL).
"""

from ._judge import Truth as Truth
from ._judge import contest as contest
from ._registry import BLIND as BLIND
from ._registry import LOCALIZERS as LOCALIZERS
from ._registry import fits as fits
from ._table import Contest as Contest
from ._table import Entry as Entry
from ._table import random_interval as random_interval
