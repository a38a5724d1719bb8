"""The workbench: layers, unit map, gallery and readout on one session."""

from ._messages import contrast as contrast
