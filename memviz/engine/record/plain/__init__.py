"""The plain model, called without any mode of memviz's: what the engines are compared with."""

from ._agree import largest_error as largest_error
from ._agree import scale_of as scale_of
from ._agree import slack as slack
from ._calls import Comparison as Comparison
from ._calls import check_steady as check_steady
from ._reference import Reference as Reference
from ._weights import Fingerprint as Fingerprint
from ._weights import fingerprint as fingerprint
