"""Judging mathematics: find the answer, write it one way, compare it exactly, and only then ask a computer algebra."""
