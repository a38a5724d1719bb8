"""Memorizers by construction, on digits: a ready study whose memorizing units are known.

``python -m memviz.demos.memorizers`` compares all constructions and a trained network on the same
digits; ``--json`` prints one JSON object.
"""

from ._recipe import BUILT as BUILT
from ._recipe import TRUTHS as TRUTHS
from ._recipe import compare as compare
from ._recipe import load as load
from ._recipe import pair as pair
from ._recipe import verified as verified
from ._recipe import yun_2500 as yun_2500
