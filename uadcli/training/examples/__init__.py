"""What networks learn from and are judged on: slices, synthetic cases, and lesions in held-out scans."""
