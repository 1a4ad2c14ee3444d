"""Arrays and geometry: scans in, the MNI grid and exactly back; knows no network of ours."""
