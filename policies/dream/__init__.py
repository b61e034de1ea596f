"""Policies of the dream station, one small policy a file."""
