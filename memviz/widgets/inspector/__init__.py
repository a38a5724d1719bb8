"""The inspector: everything known about one example."""

from ._inspector import Inspector as Inspector
from ._inspector import last_features as last_features
from ._inspector import row as row
from ._view import inspector as inspector
