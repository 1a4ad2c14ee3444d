"""Many scans: which they are, what is done already, workers and clusters, tables and failures."""
