"""Many scans: finding them, resuming, worker processes and clusters, tables and failures."""
