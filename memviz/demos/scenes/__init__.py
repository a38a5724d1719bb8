"""Scenes: drawn pictures, their captions, and two CLIP models trained on them."""

from ._recipe import MINUTES as MINUTES
from ._recipe import SHIPPED_SEEDS as SHIPPED_SEEDS
from ._recipe import SIDES as SIDES
from ._recipe import Scenes as Scenes
from ._recipe import fit as fit
from ._recipe import gaps as gaps
from ._recipe import load_scenes as load_scenes
from ._recipe import prepare as prepare
from ._recipe import utility as utility
from ._study import load as load
from ._study import retrieval as retrieval
from ._trainings import DIRECTIONS as DIRECTIONS
from ._trainings import STEPS as STEPS
from ._trainings import Point as Point
from ._trainings import Setting as Setting
from ._trainings import of_size as of_size
from ._trainings import scenes_of as scenes_of
