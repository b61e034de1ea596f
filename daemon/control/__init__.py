"""Control: the API server on a Unix socket, and its client dreamctl."""
