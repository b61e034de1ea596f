"""Policies of the grade station, one small policy a file."""
