"""A model in use: its networks, its statistics of healthy scans, and the evidence of one scan for its scores."""
