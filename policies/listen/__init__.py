"""Policies of the listen station, one small policy a file."""
