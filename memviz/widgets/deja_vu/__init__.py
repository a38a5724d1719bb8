"""The déjà vu explorer."""

from ._controller import DejaVuController as DejaVuController
from ._view import DejaVuView as DejaVuView
from ._view import deja_vu as deja_vu
