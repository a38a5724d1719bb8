"""The extraction explorer: passages that a language model recites, and where they break."""

from ._controller import ExtractionController as ExtractionController
from ._view import ExtractionView as ExtractionView
from ._view import extraction as extraction
