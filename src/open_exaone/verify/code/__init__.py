"""Judging programs: find the program in the reply, run it in the sandbox against its tests, compare."""
