"""Déjà vu in self-supervised models (Meehan et al. 2023): a background crop finds its foreground.

The part of a training image outside its object is embedded; its nearest public images vote for a
label. A model that never saw the image finds the label where background and object go together in
the world; the gap to it is the DV score. Embed with the projector: memorization is weaker at the
backbone.
"""

from ._crops import CORNERS as CORNERS
from ._crops import background_crop as background_crop
from ._crops import corner_crop as corner_crop
from ._crops import crops as crops
from ._deja_vu import QUADRANTS as QUADRANTS
from ._deja_vu import SSLDejaVu as SSLDejaVu
from ._deja_vu import ssl_test as ssl_test
from ._deja_vu import symmetrised as symmetrised
from ._votes import Votes as Votes
from ._votes import vote as vote
