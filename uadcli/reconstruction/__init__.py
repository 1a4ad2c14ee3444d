"""Networks and diffusion: from slices to pseudo-healthy slices. Tensors only; no file format but safetensors."""
