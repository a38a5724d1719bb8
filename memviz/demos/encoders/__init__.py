"""Pairs of encoders of the digits, trained with and without some of them."""

from ._recipe import LAYERS as LAYERS
from ._recipe import MINUTES as MINUTES
from ._recipe import SHIPPED_SEEDS as SHIPPED_SEEDS
from ._recipe import Encoders as Encoders
from ._recipe import How as How
from ._recipe import keep as keep
from ._recipe import load as load
from ._recipe import prepare as prepare
