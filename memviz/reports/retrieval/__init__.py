"""The page of a déjà vu study: pairs and gaps, and the units of both towers that hold them."""

from ._chapters import retrieval_page as retrieval_page
