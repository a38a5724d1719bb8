"""Probes: one file a paper or library; each public function takes a study and returns Scores."""
