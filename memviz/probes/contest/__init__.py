"""The contest: ways of finding memorizing units, judged where the truth is known.

Each localizer names as many units as are planted. It is judged by how many of them it names
(recall), by what their ablation, all together and exactly, takes from the memorized examples and
from all others, and by its seconds. Where no truth is known, only the ablation judges. These are
the two ways of Chang et al. 2024 (arXiv:2311.09060), who inject memories into language models and
ask for recall (INJ), or delete the units named and measure what is lost (DEL).
"""

from ._judge import Truth as Truth
from ._judge import contest as contest
from ._registry import BLIND as BLIND
from ._registry import LOCALIZERS as LOCALIZERS
from ._table import Contest as Contest
from ._table import Entry as Entry
from ._table import random_interval as random_interval
