"""Stations do: one file each for listen, dream, grade, learn, judge and guard."""
