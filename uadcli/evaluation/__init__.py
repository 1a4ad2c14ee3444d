"""Comparing maps with ground truth: figures per scan and method, their statistics, and the report."""
