"""Policies of the guard station, one small policy a file."""
