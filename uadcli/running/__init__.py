"""Signals, temporary files, and clear errors for faults of the system."""
