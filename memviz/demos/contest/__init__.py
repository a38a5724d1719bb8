"""The contest on planted truths: six of them and the digits."""

from ._truths import constructed as constructed
from ._truths import example_tied_one as example_tied_one
from ._truths import injected as injected
from ._truths import ordinary as ordinary
