"""Floor 2: one decoder for the whole family, its caches and its log-probabilities."""
