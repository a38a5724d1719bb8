"""Scenes: drawn pictures, their captions and two CLIP models of them."""

from ._study import retrieval as retrieval
from ._trainings import DIRECTIONS as DIRECTIONS
from ._trainings import STEPS as STEPS
from ._trainings import Point as Point
from ._trainings import Setting as Setting
from ._trainings import of_size as of_size
from ._trainings import scenes_of as scenes_of
