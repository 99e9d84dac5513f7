"""A probability map of 3 x 5 pixels, and its connected components by hand."""

import numpy as np

# Components above 0.5: 3 pixels (joined by a corner), at most 0.8, and 2 pixels, at most 0.6.
MAP = np.array([[0.8, 0.0, 0.0, 0.6, 0.6], [0.7, 0.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.0, 0.0, 0.5]])
LARGE = np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], bool)
SMALL = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
