"""Floor 7: the command line: parse, build, run. Heavy imports come after parsing."""
