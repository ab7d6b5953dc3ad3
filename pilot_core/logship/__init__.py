"""From a growing file to a log service: bytes, lines, records, batches, outcome, position."""
