"""The timeline: a study at each checkpoint of its training."""

from ._timeline import Timeline as Timeline
from ._timeline import curves as curves
from ._timeline import predicted as predicted
from ._view import timeline as timeline
