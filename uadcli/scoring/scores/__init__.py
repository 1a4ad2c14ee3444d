"""The anomaly scores, one file each: from slices and their pseudo-healthy versions to maps."""
