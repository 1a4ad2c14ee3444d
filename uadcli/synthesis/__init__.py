"""Healthy brains of any contrast, the ways of scanners, and lesions with their exact truth."""
