"""From a trained run to weights for `uad detect`: thresholds from healthy scans, the power of the fusion, export."""
