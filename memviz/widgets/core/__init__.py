"""The base of every view: worker, messages, controller, page."""

from ._assets import files as files
from ._assets import script as script
from ._assets import style as style
from ._choices import Choices as Choices
from ._choices import interventions as interventions
from ._controller import TELL_EVERY as TELL_EVERY
from ._controller import Telling as Telling
from ._messages import NO_RANDOM as NO_RANDOM
from ._messages import ROUNDING as ROUNDING
from ._messages import Message as Message
from ._messages import Sink as Sink
from ._messages import error_message as error_message
from ._messages import extra_scores_message as extra_scores_message
from ._messages import pack as pack
from ._messages import progress_message as progress_message
from ._messages import ranking as ranking
from ._messages import study_message as study_message
from ._messages import unit_scores_message as unit_scores_message
from ._part import Part as Part
from ._pictures import COLUMNS as COLUMNS
from ._pictures import SHEET as SHEET
from ._pictures import Pictures as Pictures
from ._requests import Action as Action
from ._view import BaseView as BaseView
from ._view import named_scores as named_scores
from ._worker import Worker as Worker
