"""From a growing file to a log service: bytes, lines, records, outcome,
position.
"""
