"""`keys`, `join` and `leave` as a user types them, against a stand-in of the coordinator."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.problems import NotReady
from protocol.signatures import Signer
from protocol.trainings import ScorerIdentity
from tests.trainer.stand_in import INVITATION, coordinator
from tests.trainer.support import DROP, Reply, Run, loopback, small_settings
from trainer.graph import Graph, write_folder

Here = Callable[..., Run]


@pytest.fixture
def clinic(tmp_path: Path, small: Graph) -> Path:
    write_folder(tmp_path / "clinic", {split: small.named(split) for split in small.triples})
    (tmp_path / "shared-key").write_text("a key that the clients share")
    (tmp_path / "invitation").write_text(INVITATION)
    return tmp_path


def options(clinic: Path, url: str) -> list[str | Path]:
    told = ["--coordinator", url, "--data", clinic / "clinic", "--home", clinic / "home"]
    return [*told, "--shared-key-file", clinic / "shared-key"]


def test_keys_makes_a_key_once_and_prints_the_operator_s_line(
    clinic: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clinic)
    run = here("keys", "--data", clinic / "clinic")
    assert run.returncode == 0, run.stderr
    signer = Signer.from_pem((clinic / ".tripleherd" / "clinic" / "key.pem").read_bytes())
    lines = run.stdout.splitlines()
    assert lines[0] == f"client id: {signer.key_id}"
    assert lines[-1] == f"{signer.public_key} clinic"
    for same in (("--name", "clinic"), ("--home", clinic / ".tripleherd" / "clinic")):
        assert here("keys", *same).stdout.splitlines()[-1] == lines[-1]
    read = json.loads(here("keys", "--name", "clinic", "--json").stdout)
    assert read == {"clients": [signer.key_id], "private_key": ".tripleherd/clinic/key.pem", "line": lines[-1]}


@pytest.mark.parametrize("command", [("keys",), ("keys", "rotate"), ("leave",)], ids=" ".join)
def test_whose_home_it_is_has_to_be_said(here: Here, command: tuple[str, ...]) -> None:
    run = here(*command)
    assert run.returncode == 2
    assert "Give --home, or --data or --name" in run.stderr


def test_a_client_joins_trains_and_leaves(clinic: Path, here: Here) -> None:
    settings = small_settings("transe", dim=8, rounds=2, evaluate_every=1, share="both")
    with coordinator(settings) as stand_in:
        stand_in.before = lambda asked: (204, b"") if asked.startswith("DELETE") else None
        common = options(clinic, stand_in.server.url)
        run = here("join", *common, "--share", "both")
        assert run.returncode == 2
        line = here("keys", "--home", clinic / "home", "--name", "clinic").stdout.splitlines()[-1]
        assert run.stderr.rstrip().endswith(line)
        run = here("join", *common, "--share", "both", "--invitation-file", clinic / "invitation")
        assert run.returncode == 0, run.stderr
        assert all(mode in run.stdout for mode in ("isolation", "federation", "fusion"))
        assert {"entities", "relations"} <= stand_in.received[1][0].keys()
        run = here("join", *common)
        assert run.returncode == 2  # it would tell less than before, and may not without an invitation
        run = here("leave", "--coordinator", stand_in.server.url, "--home", clinic / "home", "--json")
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["coordinator"] == stand_in.server.url
        assert stand_in.server.seen[-1][0] == "DELETE"
        for home in ("home", "never"):
            run = here("leave", "--coordinator", stand_in.server.url, "--home", clinic / home)
            assert (run.returncode, "nothing to leave" in run.stderr) == (2, True)
        assert not (clinic / "never").exists()
        run = here("leave", "--name", "a/b")
        assert (run.returncode, "may hold no /" in run.stderr) == (2, True)


def test_what_cannot_be_joined_with_leaves_no_home(clinic: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clinic)
    run = here("join", "--data", clinic, "--shared-key-file", clinic / "shared-key")
    assert run.returncode == 2
    assert f"do you mean {clinic / 'clinic'}?" in run.stderr
    assert not (clinic / ".tripleherd").exists()


def test_a_member_waits_as_long_as_it_is_told_and_goes_on_afterwards(clinic: Path, here: Here) -> None:
    with coordinator(small_settings("transe", dim=8, rounds=2, evaluate_every=1)) as stand_in:
        fetched: list[str] = []

        def gone(asked: str) -> Reply | None:
            if asked.endswith("/embeddings"):
                fetched.append(asked)
                return DROP
            return None

        stand_in.before = gone
        told = ["--invitation-file", clinic / "invitation", "--give-up-after", "1"]
        run = here("join", *options(clinic, stand_in.server.url), *told)
        assert run.returncode == 2
        assert len(fetched) > 1
        assert "did not answer for 1 s" in run.stderr
        assert "Nothing is lost: the same command goes on" in run.stderr
        # Known there, it waits so also when it is started while the coordinator is away.
        stand_in.before = lambda asked: DROP
        run = here("join", *options(clinic, stand_in.server.url), *told)
        assert (run.returncode, "did not answer for 1 s" in run.stderr) == (2, True)
        stand_in.before = lambda asked: None
        run = here("join", *options(clinic, stand_in.server.url), *told)
        assert run.returncode == 0, run.stderr
        assert stand_in.joins == 1


def test_a_scorer_is_waited_for_as_long(clinic: Path, here: Here) -> None:
    loading = NotReady("the model is loading").document().model_dump_json(exclude_defaults=True).encode()
    identity = ScorerIdentity(
        model="m", revision="r", hidden=8, dtype="float32", quantization="none", query_hash="a" * 64
    )
    with (
        coordinator(
            small_settings("transe", dim=8).model_copy(update={"interaction": "llama", "scorer": identity})
        ) as stand_in,
        loopback(lambda path, body: (503, loading)) as scorer,
    ):
        told = ["--invitation-file", clinic / "invitation", "--give-up-after", "1", "--scorer", scorer.url]
        run = here("join", *options(clinic, stand_in.server.url), *told)
    assert run.returncode == 2
    assert len(scorer.seen) > 1
    assert "the model is loading. Nothing is lost: the same command goes on" in run.stderr


def test_a_training_whose_relations_have_another_form_is_refused(clinic: Path, here: Here) -> None:
    settings = small_settings("distmult", dim=8, share="relations")
    odd = settings.model_copy(update={"relation_dim": 8})
    with coordinator(odd) as stand_in:
        invited = ["--invitation-file", clinic / "invitation", "--share", "relations"]
        run = here("join", *options(clinic, stand_in.server.url), *invited)
    assert run.returncode == 2
    assert "relation_dim is not that of `distmult`" in run.stderr


def test_a_key_of_no_member_is_not_rotated(clinic: Path, here: Here) -> None:
    run = here("keys", "rotate", "--coordinator", "http://127.0.0.1:1", "--home", clinic / "home")
    assert run.returncode == 2
    assert "has joined no coordinator" in run.stderr


def test_a_key_is_rotated_where_the_home_is_a_member(clinic: Path, here: Here) -> None:
    with coordinator() as stand_in:
        stand_in.settings = small_settings("transe", dim=8, rounds=1, evaluate_every=1)
        common = options(clinic, stand_in.server.url)
        assert here("join", *common, "--invitation-file", clinic / "invitation").returncode == 0
        rotate = ("keys", "rotate", "--home", clinic / "home", "--coordinator")
        run = here(*rotate, "http://127.0.0.1:1")
        assert f"is no member at http://127.0.0.1:1, but at {stand_in.server.url}" in run.stderr
