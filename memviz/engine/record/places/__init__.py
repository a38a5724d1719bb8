"""Which layers a model has, and where in its forward pass their units are."""

from ._declared import check_allowed as check_allowed
from ._declared import refusal as refusal
from ._flow import NONLINEARITIES as NONLINEARITIES
from ._flow import NORMALIZATIONS as NORMALIZATIONS
from ._flow import is_copy as is_copy
from ._fused import inside as inside
from ._locate import locate as locate
from ._reasons import check_located as check_located
from ._reasons import has_inner_layers as has_inner_layers
from ._site import Located as Located
from ._site import Site as Site
from ._weights import is_own_map as is_own_map
from ._weights import map_arguments as map_arguments
from ._weights import turned_by as turned_by
