"""From a trained run to weights for `uad detect`: thresholds of healthy scans, the fusion's power, the export."""
