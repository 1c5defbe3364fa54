"""The benchmarks of the reports: what each is, where its rows come from, and how a row becomes a problem."""
