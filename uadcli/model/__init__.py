"""A model in use: its networks, what it knows of healthy scans, and one scan as its scores see it."""
