"""Floor 5: everything that draws: the run's report, the model card, the terminal. Reads plain JSON."""
