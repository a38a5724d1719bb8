"""Probes: one folder per paper or library, each with functions that measure a study."""
