"""Does. Everything with a file, a socket, a clock or a GPU."""
