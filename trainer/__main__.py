"""`python -m trainer` is `tripleherd`."""

from trainer.cli import main

main()
