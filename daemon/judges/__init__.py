"""Judges decide whether an answer shows a behaviour. One judge a file; a judge is never the adapter it judges."""
