from pathlib import Path

import pytest

from trainer.checkpoints import HomeUnusable
from trainer.home import Home, Membership

HERE, THERE = "http://127.0.0.1:8001", "http://10.0.0.1:8001"


def member(coordinator: str, client: str = "c1") -> Membership:
    return Membership(coordinator=coordinator, client=client, sent="d1ge57")


def test_a_membership_belongs_to_its_coordinator(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")
    assert home.membership(HERE) is None
    home.keep(member(HERE))
    home.keep(member(THERE, "c2"))
    assert Home(home.path).membership(HERE) == member(HERE)
    assert sorted(each.client for each in home.memberships()) == ["c1", "c2"]
    home.keep(member(HERE, "c3"))
    assert home.membership(HERE) == member(HERE, "c3")
    home.forget(HERE)
    home.forget(HERE)
    assert home.memberships() == [member(THERE, "c2")]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.keep(member(HERE))
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    with pytest.raises(HomeUnusable, match=r"member-\w+\.json: is damaged; delete it"):
        home.membership(HERE)


def test_a_home_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    with Home(tmp_path).alone(), pytest.raises(HomeUnusable, match="--home"), Home(tmp_path).alone():
        pass
    with Home(tmp_path).alone():
        pass


@pytest.mark.parametrize("name", ["../../somewhere", "/etc", "..", "", "a/b", "a" * 101])
def test_a_coordinator_s_words_lead_to_no_other_folder(tmp_path: Path, name: str) -> None:
    for ids in (("c1", name), (name, "t1")):
        with pytest.raises(HomeUnusable, match="are no ids"):
            Home(tmp_path).training(*ids)
