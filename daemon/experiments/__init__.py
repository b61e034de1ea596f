"""Experiments answer the seven questions; one file each."""
