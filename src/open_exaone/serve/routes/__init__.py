"""One file for each API: its records, what they ask of the service, and how its answers are written."""
