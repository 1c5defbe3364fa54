"""The public Python API, whose names `open_exaone` offers: what computes, and what judges."""
