"""Programs and calls that nobody vouches for, run where they can do no harm and within hard limits."""
