"""Losses of early learning (Liu et al. 2020): ELR, ELR+ and their peers."""

from ._losses import CLAMP as CLAMP
from ._losses import ELR as ELR
from ._losses import GCE as GCE
from ._losses import Bootstrap as Bootstrap
from ._losses import ForwardCorrection as ForwardCorrection
from ._losses import SymmetricCrossEntropy as SymmetricCrossEntropy
from ._losses import stopping_epoch as stopping_epoch
from ._losses import symmetric_transition as symmetric_transition
from ._plus import MeanOfTwo as MeanOfTwo
from ._plus import Mixed as Mixed
from ._plus import mixed_loss as mixed_loss
from ._plus import mixup as mixup
from ._plus import train_two as train_two
from ._plus import weight_average as weight_average
