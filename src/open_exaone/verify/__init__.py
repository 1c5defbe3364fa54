"""Floor 2: judging a reply: extract the answer, compare it, and say why. No torch here."""
