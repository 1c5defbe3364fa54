"""Floor 3: from problems and replies to batches of token ids. NumPy, no torch."""
