"""Serving on vLLM: which version answers (the route), the alias that clients use, and a server that the daemon runs."""
