"""The one ablation engine: record a forward pass, re-run what lies downstream of a change."""
