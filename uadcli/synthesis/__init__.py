"""Made data: lesions, brains and contrasts for training, and `uad synth`."""
