"""A module that says how it was started, and sleeps until it is stopped."""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    print(__name__, Path(sys.argv[0]).name, *sys.argv[1:], flush=True)
    time.sleep(60)
