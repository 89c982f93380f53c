"""Tools for those who work on Tripleherd itself."""
