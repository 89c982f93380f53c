from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib.image import imread

from trainer.experiments.plots import draw, mrr_by_bytes, mrr_by_round

from .records import a_run, a_training, done

NAMES = {"mrr-by-round", "mrr-by-bytes", "mrr-by-mode", "mrr-by-client"}
RUNS = [a_run("t_1", seed) for seed in (0, 1)] + [a_run("u", 0), a_run("t_1", 0, "collection", "other")]


def test_every_figure_is_drawn_as_png_and_svg_and_the_same_again(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        draw(tmp_path / folder, "one", done(*RUNS))
    assert {file.name for file in (tmp_path / "x").iterdir()} == {
        f"{n}.{kind}" for n in NAMES for kind in ("png", "svg")
    }
    for file in (tmp_path / "x").iterdir():
        assert file.read_bytes() == (tmp_path / "y" / file.name).read_bytes()
        assert file.read_bytes().startswith(b"\x89PNG" if file.suffix == ".png" else b"<?xml")


def test_labels_are_on_the_figures(tmp_path: Path) -> None:
    draw(tmp_path, "one", done(*RUNS))
    for name, words in {
        "mrr-by-round": ("rounds", "validation MRR", "t_1", "umls"),
        "mrr-by-bytes": ("megabytes sent by all clients", "validation MRR"),
        "mrr-by-mode": ("test MRR", "collection", "federation", "standard deviation"),
        "mrr-by-client": ("client_1", "umls, t_1", "other, t_1"),
    }.items():
        svg = (tmp_path / f"{name}.svg").read_text()
        for word in words:  # letters are drawn as shapes; each text stands beside them as a comment
            assert f"<!-- {word}" in svg or word in svg, (name, word)


def test_without_a_coordinator_there_is_no_training_to_draw(tmp_path: Path) -> None:
    draw(tmp_path, "one", done(a_run(kind="collection")))
    assert {file.stem for file in tmp_path.iterdir()} == {"mrr-by-mode", "mrr-by-client"}


def test_nothing_is_cut_off_at_the_edge(tmp_path: Path) -> None:
    draw(tmp_path, "a-name-that-is-as-long-as-they-may-be-" * 2, done(*RUNS))
    for file in tmp_path.glob("*.png"):
        picture = imread(file)[..., :3]
        assert picture.min() < 0.5
        for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
            assert edge.min() == 1, file.name  # white


def test_figures_of_what_is_no_more_are_gone(tmp_path: Path) -> None:
    draw(tmp_path, "one", done(a_run()))
    draw(tmp_path, "one", done(a_run(kind="collection")))
    assert {file.stem for file in tmp_path.iterdir()} == {"mrr-by-mode", "mrr-by-client"}


def test_nothing_done_draws_nothing(tmp_path: Path) -> None:
    draw(tmp_path, "one", [])
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_placed_after_the_rounds_and_bytes_that_made_it() -> None:
    training = a_training()
    mrr = training.history[2].valid["both"].mrr
    assert mrr_by_round(training, "both") == [(2.0, mrr), (4.0, mrr)]
    assert mrr_by_round(training, "tail")[0] == (2.0, training.history[2].valid["tail"].mrr) != (2.0, mrr)
    # Two clients sent 8 MB in four rounds of two updates.
    assert mrr_by_bytes(training, "both") == [(4.0, mrr), (8.0, mrr)]
