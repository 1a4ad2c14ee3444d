"""What a process needs to run safely: signals, temporary files, and the faults of the system in words."""
