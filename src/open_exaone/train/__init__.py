"""Floor 5: one loop, one state, and a page for each kind of stage."""
