"""The verbs of the command line, in Python: they join imaging, reconstruction, scoring and report."""
