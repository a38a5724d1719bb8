"""The digits: 1,200 learned by heart, 120 of them with wrong labels."""

from ._accounting import ACCOUNTING_WEIGHT_DECAY as ACCOUNTING_WEIGHT_DECAY
from ._accounting import SHIPPED_SEEDS as SHIPPED_SEEDS
from ._accounting import accounting as accounting
from ._accounting import accounting_study as accounting_study
from ._accounting import keep as keep
from ._accounting import wide_study as wide_study
from ._score_file import read_scores as read_scores
from ._score_file import write_scores as write_scores
from ._study import BATCH_SIZE as BATCH_SIZE
from ._study import CHANNELS as CHANNELS
from ._study import CLASSES as CLASSES
from ._study import EPOCHS as EPOCHS
from ._study import HIDDEN as HIDDEN
from ._study import LEARNING_RATE as LEARNING_RATE
from ._study import MINUTES as MINUTES
from ._study import TRAINING as TRAINING
from ._study import WEIGHT_DECAY as WEIGHT_DECAY
from ._study import Digits as Digits
from ._study import examples as examples
from ._study import load as load
from ._study import prepare as prepare
