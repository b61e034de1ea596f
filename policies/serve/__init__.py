"""Serve: what the server that answers must show, and how it shares a GPU with training. One policy a file."""
