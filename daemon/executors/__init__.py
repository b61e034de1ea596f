"""Executors run jobs: inline, or in a warm worker process that owns a model."""
