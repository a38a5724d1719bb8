"""Contrastive training of a CLIP model: the loop, its run, masked captions."""

from ._loop import LARGEST_SCALE as LARGEST_SCALE
from ._loop import WARM_UP as WARM_UP
from ._loop import contrastive_loss as contrastive_loss
from ._loop import train_contrastive as train_contrastive
from ._masking import mask_captions as mask_captions
from ._resume import FILE as FILE
from ._run import ContrastiveRun as ContrastiveRun
