"""Debian's packages that tests need, installed where that is possible."""

import os
import shutil
import subprocess

SECONDS = 280


def install(*packages: str) -> None:
    """Try to; who calls looks whether what it needs is there now. Without root or Debian, nothing is done."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", *command], env=environment, capture_output=True, timeout=SECONDS)
