"""Tasks: what is right and what is wrong for a model's output."""
