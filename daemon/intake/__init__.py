"""Intake reads conversation logs as they grow."""
