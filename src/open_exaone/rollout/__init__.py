"""Floor 4: problem -> completions -> verdicts -> groups. No torch: the engine comes in as a callable."""
