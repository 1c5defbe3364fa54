"""Floor 3: token ids in, token ids out."""
