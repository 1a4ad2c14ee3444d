"""Types of the arrays that modules exchange, and a ratio of statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]  # a volume (X, Y, Z), or slices of one
Mask = NDArray[np.bool_]  # of the same shape as the array it belongs to
Affine = NDArray[np.float64]  # (4, 4), voxel indices to world points in mm, RAS+

SD_PER_MAD = 1.4826  # standard deviation over median absolute deviation, of normal values
