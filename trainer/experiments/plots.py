"""The figures of an experiment, as PNG and SVG: MRR by round and by bytes sent, by mode, and by client.

Colours are those of Okabe and Ito (2008), which colour-blind people tell apart; lines differ in their markers too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protocol.rounds import Mode, SideName
from trainer.experiments.means import Done, Group, Mean, by_data, groups
from trainer.experiments.record import Training
from trainer.files import whole

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_MODES: Mapping[Mode, str] = dict(zip(("isolation", "collection", "federation", "fusion"), _COLOURS, strict=False))
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.bbox": "tight",  # a legend may be wider than the panels above it
    "svg.hashsalt": "tripleherd",  # the same content is the same file
}
_BARS = "test triples, both sides: mean over seeds, and its standard deviation"
Curve = Callable[[Training, SideName], list[tuple[float, float]]]


def draw(folder: Path, name: str, done: Done) -> None:
    """Write every figure that there is something for, and no other; `folder` gets two files of each."""
    for former in folder.glob("mrr-by-*"):  # of other modes, or before a setting was changed
        former.unlink()
    found = groups(done)
    with rc_context(_STYLE):
        if any(record.training is not None for _, record in done):
            _save(folder, "mrr-by-round", _curves(name, done, mrr_by_round, "rounds"))
            _save(folder, "mrr-by-bytes", _curves(name, done, mrr_by_bytes, "megabytes sent by all clients"))
        if found:
            _save(folder, "mrr-by-mode", _modes(name, by_data(found)))
            _save(folder, "mrr-by-client", _clients(name, found))


def mrr_by_round(training: Training, side: SideName) -> list[tuple[float, float]]:
    """Rounds done, and the validation MRR of the version that came of them."""
    return [(each.round - 1.0, each.valid[side].mrr) for each in training.history if each.valid]


def mrr_by_bytes(training: Training, side: SideName) -> list[tuple[float, float]]:
    """Megabytes that all clients had sent, and the validation MRR that came of them. An update has its mean size."""
    updates = sum(each.updates for each in training.history)
    size = sum(client.sent for client in training.clients) / max(1, updates)
    points, sent = [], 0
    for each in training.history:
        if each.valid:
            points.append((sent * size / 1e6, each.valid[side].mrr))
        sent += each.updates
    return points


def _panels(
    rows: Sequence[str], columns: Sequence[str], width: float, height: float, value: str
) -> tuple[Figure, list[list[Axes]]]:
    """A grid of panels with a common MRR axis, a title on each column and, where there are several, on each row."""
    figure = Figure(figsize=(width * len(columns), height * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), sharey=True, squeeze=False)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            axes[i][j].set_title(", ".join([column, *([row] if row else [])]), fontsize=9)
        axes[i][0].set_ylabel(value)
    return figure, [list(row) for row in axes]


def _curves(name: str, done: Done, curve: Curve, across: str) -> Figure:
    """A panel for each data set, a line for each variant: the mean over seeds, in a band from the least to the most."""
    federated = [(run, record.training) for run, record in done if record.training is not None]
    data = list(dict.fromkeys(run.data for run, _ in federated))
    variants = list(dict.fromkeys(run.variant for run, _ in federated))
    figure, ((*panels,),) = _panels([""], data, 4.2, 3.2, "validation MRR")
    for axes, dataset in zip(panels, data, strict=True):
        axes.set_xlabel(across)
        for number, variant in enumerate(variants):
            here = [each for each in federated if (each[0].data, each[0].variant) == (dataset, variant)]
            curves = [curve(training, run.settings.local.sides) for run, training in here]  # by what is learnt
            points = list(_over_seeds(curves))
            if points:
                _line(axes, points, variant, number)
    _legend(figure, panels, f"{name}, federation: mean over seeds, and the least to the most")
    return figure


def _over_seeds(curves: list[list[tuple[float, float]]]) -> Iterable[tuple[float, float, float, float]]:
    """Place, mean, least and most of each evaluation that some seeds have; by its number, as sizes differ a little."""
    for number in range(max(map(len, curves), default=0)):
        here = [curve[number] for curve in curves if number < len(curve)]
        values = [value for _, value in here]
        yield Mean.of(x for x, _ in here).value, Mean.of(values).value, min(values), max(values)


def _line(axes: Axes, points: list[tuple[float, float, float, float]], label: str, number: int) -> None:
    x, mean, low, high = zip(*points, strict=True)
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    axes.plot(x, mean, color=colour, marker=marker, markersize=4, linewidth=1.5, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _modes(name: str, found: Mapping[str, list[Group]]) -> Figure:
    """A panel for each data set, a cluster for each variant, a bar for each mode."""
    variants = max(len({group.variant for group in of_data}) for of_data in found.values())
    figure, ((*panels,),) = _panels([""], list(found), max(3.2, 1.4 * variants + 1), 3.2, "test MRR")
    for axes, of_data in zip(panels, found.values(), strict=True):
        bars = {(g.variant, g.mode): Mean.of(m.mrr for m in g.metrics("both")) for g in of_data}
        _bars(axes, bars)
    _legend(figure, panels, f"{name}, {_BARS}")
    return figure


def _clients(name: str, found: list[Group]) -> Figure:
    """A panel for each data set and variant, a cluster for each client, a bar for each mode."""
    data, variants = (list(dict.fromkeys(names)) for names in zip(*((g.data, g.variant) for g in found), strict=True))
    clients = max(len(group.clients()) for group in found)
    figure, panels = _panels(variants, data, max(3.2, 1.1 * clients + 1), 2.6, "test MRR")
    for i, variant in enumerate(variants):
        for j, dataset in enumerate(data):
            of_panel = [group for group in found if (group.data, group.variant) == (dataset, variant)]
            bars = {
                (client, group.mode): Mean.of(row.sides["both"].mrr for row in group.of_client(client))
                for group in of_panel
                for client in group.clients()
            }
            _bars(panels[i][j], bars)
    _legend(figure, [axes for row in panels for axes in row], f"{name}, {_BARS}")
    return figure


def _bars(axes: Axes, bars: Mapping[tuple[str, Mode], Mean]) -> None:
    """Clusters of bars; an error bar is one sample standard deviation over seeds, where there are several."""
    clusters = list(dict.fromkeys(cluster for cluster, _ in bars))
    modes = [mode for mode in _MODES if any(mode == each for _, each in bars)]
    width = 0.8 / max(1, len(modes))
    for number, mode in enumerate(modes):
        here = [(i, bars[c, mode]) for i, c in enumerate(clusters) if (c, mode) in bars]
        x = [i + (number - (len(modes) - 1) / 2) * width for i, _ in here]
        errors = [mean.deviation or 0.0 for _, mean in here] if any(m.deviation for _, m in here) else None
        values = [mean.value for _, mean in here]
        axes.bar(x, values, width * 0.92, yerr=errors, capsize=2, color=_MODES[mode], label=mode)
    slanted = sum(map(len, clusters)) > 40
    axes.set_xticks(range(len(clusters)), clusters, rotation=20 if slanted else 0, ha="right" if slanted else "center")
    axes.grid(axis="x", visible=False)


def _legend(figure: Figure, panels: Iterable[Axes], title: str) -> None:
    """Each label once, below all panels."""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=4, title=title)


def _save(folder: Path, name: str, figure: Figure) -> None:
    with whole(folder / f"{name}.png") as out:
        figure.savefig(out, format="png", dpi=200)
    with whole(folder / f"{name}.svg") as out:
        figure.savefig(out, format="svg", metadata={"Date": None})
