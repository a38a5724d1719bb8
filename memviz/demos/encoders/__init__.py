"""Pairs of encoders of the digits, trained with and without some of them."""

from ._recipe import Encoders as Encoders
from ._recipe import load as load
