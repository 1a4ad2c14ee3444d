"""Scan files: which there are and what they are called, and their way to the model's grid and back."""
