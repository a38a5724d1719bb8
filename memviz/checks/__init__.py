"""What every room needs to refuse something in one sentence.

Quotes of what was given, checks of files, and of arguments: ``checked`` holds them against the
signature of a function, where ``Seed``, ``Count`` and other kinds say which numbers are allowed.
"""

from ._arguments import ArgumentError as ArgumentError
from ._arguments import checked as checked
from ._code import coded as coded
from ._files import check_file as check_file
from ._files import check_place as check_place
from ._files import read_json as read_json
from ._indices import IndicesLike as IndicesLike
from ._indices import NoneChosenError as NoneChosenError
from ._indices import as_indices as as_indices
from ._kinds import Between as Between
from ._kinds import Count as Count
from ._kinds import CountOrZero as CountOrZero
from ._kinds import Positive as Positive
from ._kinds import Seed as Seed
from ._kinds import Share as Share
from ._numbers import as_numbers as as_numbers
from ._numbers import described as described
from ._quote import listed as listed
from ._quote import quoted as quoted
from ._shapes import check_shapes as check_shapes
