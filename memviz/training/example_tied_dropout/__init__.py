"""Example-tied dropout (Maini et al. 2023, 5)."""

from ._dropout import CHILD as CHILD
from ._dropout import Compensation as Compensation
from ._dropout import ExampleTiedDropout as ExampleTiedDropout
from ._dropout import Mode as Mode
from ._dropout import example_ids as example_ids
from ._dropout import ids_put_back as ids_put_back
from ._dropout import insert_example_tied_dropout as insert_example_tied_dropout
from ._dropout import set_mode as set_mode
from ._hashed import uniform as uniform
