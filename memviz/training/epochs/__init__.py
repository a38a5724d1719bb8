"""What all training loops share: whole epochs or none, seeded draws, interrupts that wait."""

from ._draws import check_seed as check_seed
from ._draws import seeded_draws as seeded_draws
from ._draws import seeded_epoch as seeded_epoch
from ._frame import Epochs as Epochs
from ._frame import OnEpoch as OnEpoch
from ._frame import advice as advice
from ._interrupts import HeldBack as HeldBack
from ._places import check_one_device as check_one_device
