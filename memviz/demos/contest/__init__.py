"""The contest on planted truths: six of them and the digits."""

from ._found import known_truths as known_truths
from ._found import truths as truths
from ._truths import TRUTHS as TRUTHS
from ._truths import constructed as constructed
from ._truths import example_tied_all as example_tied_all
from ._truths import example_tied_one as example_tied_one
from ._truths import injected as injected
from ._truths import injected_by_training as injected_by_training
from ._truths import ordinary as ordinary
