"""Networks that memorize by construction: explicit weights, and the unit that owns each example.

Six constructions, none of them trained: of Yun, Sra and Jadbabaie (2019) with three layers and,
for classes, with four; of Zhang et al. (2017); of Baum (1988) and Bubeck et al. (2020); of Yu et
al. (2024), certified around each point, as our reconstruction; and a narrow, deep one of our own.
The theorems are theirs, the weights our derivations. All fit every example; what they say of
others is another matter.
"""

from ._build import METHODS as METHODS
from ._build import Activation as Activation
from ._build import Method as Method
from ._build import construct_memorizer as construct_memorizer
from ._report import Memorizer as Memorizer
