"""Extraction: which passages a language model recites, and which models foretell it.

After "Emergent and Predictable Memorization in Large Language Models" (Biderman et al. 2023), with
the measures of its neighbours: (n, p)-discoverable extraction (Hayes et al. 2024), exposure
(Carlini et al. 2019) and counterfactual memorization (Zhang et al. 2021).
"""

from ._counterfactual import counterfactual_influence as counterfactual_influence
from ._counterfactual import counterfactual_memorization as counterfactual_memorization
from ._curves import recited_by_copies as recited_by_copies
from ._curves import recited_by_prompt as recited_by_prompt
from ._exposure import exposure as exposure
from ._exposure import extrapolated_exposure as extrapolated_exposure
from ._forecast import Forecast as Forecast
from ._forecast import correlations as correlations
from ._forecast import forecast as forecast
from ._forecast import forecasts as forecasts
from ._forecast import tracks as tracks
from ._forecast import training_compute as training_compute
from ._passages import token_ids as token_ids
from ._recital import Recital as Recital
from ._recital import matched_by_prompt as matched_by_prompt
from ._recital import predicted_by_prompt as predicted_by_prompt
from ._recital import recite as recite
from ._sampling import discoverable as discoverable
from ._sampling import samples_needed as samples_needed
from ._sampling import sampling_probabilities as sampling_probabilities
from ._scores import Extraction as Extraction
from ._scores import TeacherForced as TeacherForced
from ._scores import constant_rate as constant_rate
from ._scores import extract as extract
from ._scores import teacher_forced as teacher_forced
from ._stream import extract_stream as extract_stream
