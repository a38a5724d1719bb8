"""What the user can choose: scores and interventions, by name."""

from __future__ import annotations

Choices = list[dict[str, str]]


_INTERVENTIONS = [
    {"key": "zero", "label": "zero"},
    {"key": "mean", "label": "mean"},
    {"key": "filter", "label": "filter"},
]


def interventions(how: str) -> Choices:
    """The three usual interventions, and the current one if it is another."""
    keys = {entry["key"] for entry in _INTERVENTIONS}
    return [*_INTERVENTIONS, *([] if how in keys else [{"key": how, "label": how}])]
