"""Intake reads conversation logs as they grow: `reader` one file, `watcher` folders, `formats` one file a format."""
