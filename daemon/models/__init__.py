"""Models: what generates, learns and is observed. Nothing here is imported by the main process at start-up."""
