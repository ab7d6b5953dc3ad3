"""Frozen data, standard library only."""
