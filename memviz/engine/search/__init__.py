"""Embeddings, and exact nearest neighbours."""

from ._embeddings import cached_embeddings as cached_embeddings
from ._embeddings import embed as embed
from ._neighbours import Neighbours as Neighbours
from ._neighbours import nearest as nearest
from ._screen import Measure as Measure
from ._screen import Screen as Screen
from ._screen import product as product
from ._search import Search as Search
