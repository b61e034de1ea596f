"""The revisions, one file each: r<revision>_<what>.py."""
