"""From slices and their pseudo-healthy versions to findings: scores, thresholds, components, metrics."""
