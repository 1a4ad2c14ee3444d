"""A model in use: its scores, thresholds, out-of-distribution check, and adaptation to a scanner."""
