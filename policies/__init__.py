"""Decides. Pure functions and small classes: no I/O, no clock, no global randomness, no torch."""
