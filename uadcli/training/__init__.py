"""Training of all networks: data, loop, checkpoints, devices, and the folder of a run."""
