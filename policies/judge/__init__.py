"""Policies of the judge station, one small policy a file."""
