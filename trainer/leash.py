"""Runs a module as `python -m` does, for as long as the process lives that holds the other end of standard input.

`processes` starts its children so: where their parent is killed and cannot stop them, none is left behind.
"""

import os
import runpy
import sys
import threading


def _follow() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)  # at once: whatever runs here may be killed at any time, and who comes next must not meet it


def main() -> None:
    """Run the module that the first argument names with the arguments that follow."""
    threading.Thread(target=_follow, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
