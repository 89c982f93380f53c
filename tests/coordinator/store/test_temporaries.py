import subprocess
import sys
from pathlib import Path

from services.coordinator.store.temporaries import Temporaries

from .places import ROOT

LEAVES = """
import sys, time
from pathlib import Path
from services.coordinator.store.temporaries import Temporaries
temporaries = Temporaries(Path(sys.argv[1]))
file = temporaries.fresh()
file.write_bytes(b"half")
print(file, flush=True)
time.sleep(600)
"""


def files(folder: Path) -> set[Path]:
    return set(folder.glob("*.tmp"))


def test_a_living_process_keeps_its_files_and_a_killed_one_does_not(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", LEAVES, tmp_path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    left = Path(child.stdout.readline().strip())
    mine = Temporaries(tmp_path).fresh()
    assert files(tmp_path) == {left}
    child.kill()
    child.communicate()
    here = Temporaries(tmp_path)
    assert files(tmp_path) == set()
    assert here.fresh() != mine
    assert len(list(tmp_path.glob("*.lock"))) == 1


def test_a_file_whose_process_left_no_lock_is_swept(tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef.0123.tmp").write_bytes(b"half")
    Temporaries(tmp_path)
    assert files(tmp_path) == set()


def test_the_files_of_two_in_one_process_stay(tmp_path: Path) -> None:
    first = Temporaries(tmp_path)
    file = first.fresh()
    file.write_bytes(b"half")
    second = Temporaries(tmp_path)
    assert files(tmp_path) == {file}
    assert second.fresh() != first.fresh()
