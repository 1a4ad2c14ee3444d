"""The data for training and validation: slices, synthetic cases, and lesions in held-out scans."""
