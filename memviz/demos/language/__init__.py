"""Language models that recite: GPTs of three sizes on passages repeated 1 to 64 times."""

from ._measures import Tables as Tables
from ._measures import ablation as ablation
from ._measures import chosen_neurons as chosen_neurons
from ._measures import figures as figures
from ._measures import halves as halves
from ._measures import tables as tables
from ._passages import COPIES as COPIES
from ._passages import Passages as Passages
from ._passages import passages as passages
from ._passages import tokenizer as tokenizer
from ._recipe import CHECKPOINT_EPOCHS as CHECKPOINT_EPOCHS
from ._recipe import EPOCHS as EPOCHS
from ._recipe import MINUTES as MINUTES
from ._recipe import SHIPPED_SEEDS as SHIPPED_SEEDS
from ._recipe import SIZES as SIZES
from ._recipe import ladder as ladder
from ._recipe import load as load
from ._recipe import prepare as prepare
from ._tokenizer import Tokenizer as Tokenizer
