"""The formulas: distances of feature sets, perceptual distance, colour difference, the seam, what is outside a mask."""
