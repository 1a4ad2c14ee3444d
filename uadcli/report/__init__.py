"""What a run leaves for people and programs: the JSON sidecar and the picture."""
