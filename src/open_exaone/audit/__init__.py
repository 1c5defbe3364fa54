"""`exaone verify-real`: whether a published model is computed, measured and trained here as it should be."""
