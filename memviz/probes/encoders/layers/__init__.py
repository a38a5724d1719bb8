"""Which layers memorize an image: SSLMem, and LayerMem along the data path."""

from ._alignment import alignment as alignment
from ._alignment import views as views
from ._features import layer_mem_from_features as layer_mem_from_features
from ._layer_mem import LayerMem as LayerMem
from ._layer_mem import layer_mem as layer_mem
from ._layer_mem import pooled as pooled
from ._path import PathFeatures as PathFeatures
from ._path import Point as Point
from ._ssl_mem import ssl_mem as ssl_mem
