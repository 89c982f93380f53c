"""Reference pages that follow from the code."""
