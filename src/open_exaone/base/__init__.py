"""Floor 0: what every room may use: errors, records, config, files, log. No torch here."""
