"""Watching a running payload: one file a quantity, read-only, below a root
path.
"""
