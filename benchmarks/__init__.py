"""Measured claims, one runnable file each: `python -m benchmarks.NAME`.

Each prints a table and ends with one JSON line. A claim is a ratio of two things measured in one run, in turn, so that
it holds on other machines; `docs/benchmarks.md` has the figures and the machine they were taken on.
"""
