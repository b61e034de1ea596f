"""Policies of the learn station, one small policy a file."""
