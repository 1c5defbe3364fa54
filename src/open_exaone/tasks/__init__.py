"""Floor 3: problems that a program can check, and the sets that they are drawn into. No torch here."""
