"""From a trained run to weights for `uad detect`: thresholds from healthy scans, combined scores, export."""
