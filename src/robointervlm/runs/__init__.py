"""A run is one folder: resolved recipe, environment, log, records, checkpoints, report. Nothing is written outside."""
