"""A Session: what the user is looking at, with its history; no widget code."""

from ._gates import GateSession as GateSession
from ._session import HISTORY as HISTORY
from ._session import Session as Session
from ._state import State as State
