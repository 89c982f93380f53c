// Curves by round: of all clients together, of each of them, and of a training to compare with.

// Told apart by all (Okabe and Ito), some of them darkened until they stand out from white as well as from black.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#c0649a", "#b87800", "#3a9bd6", "#8c6d31", "#7f7f7f"];
const MEAN = "all clients";
const MANY = 12; // more clients than this are not shown until they are asked for
const HEIGHT = 220;

/** What was fetched of one training, brought up to date by asking for what is new alone. */
class History {
  constructor(training) {
    this.training = training;
    this.after = 0;
    this.lines = new Map([["", { name: MEAN, points: new Map() }]]);
  }

  async update() {
    let news;
    do {
      const path = `/curves?training=${encodeURIComponent(this.training)}&after=${this.after}`;
      const reply = await fetch(path).catch(() => null); // the next look asks again
      news = reply?.ok ? await reply.json().catch(() => null) : null;
      if (!news) return;
      this.after = news.next_after;
      this.add("", MEAN, news.points);
      for (const { client, name, points } of news.clients) this.add(client, name, points);
    } while (news.more);
  }

  add(id, name, points) {
    if (!this.lines.has(id)) this.lines.set(id, { name, points: new Map() });
    const line = this.lines.get(id);
    line.name = name;
    for (const point of points) line.points.set(point.round, point);
  }

  /** Rounds of this training by their order in it: two trainings never share a number. */
  rounds() {
    return [...this.lines.get("").points.keys()];
  }

  /** How many of them have something to show: the last one may have opened just to evaluate what came before. */
  length() {
    const points = [...this.lines.get("").points.values()];
    return points.length - (points.at(-1)?.bytes === 0 ? 1 : 0);
  }
}

const written = (value) => String(Number(value.toPrecision(4)));

/** Ids of clients in the order of their table, which a reload does not change; the mean before them. */
function inOrder(ids) {
  const rows = [...document.querySelectorAll("#clients tbody tr")].map((row) => row.id.replace("client-", ""));
  const place = (id) => (id === "" ? -1 : rows.includes(id) ? rows.indexOf(id) : rows.length);
  return ids.sort((one, other) => place(one) - place(other));
}

function values(line, of, measure) {
  let sum = 0;
  // A version is evaluated in the round that starts from it, and was made by the round before.
  const evaluated = measure === "mrr" || measure === "hits_at_10";
  const rounds = evaluated ? of.rounds().slice(1) : of.rounds().slice(0, of.length());
  return rounds.map((round) => {
    const point = line.points.get(round);
    if (measure === "bytes") return (sum += (point?.bytes ?? 0) / 1e6);
    return point?.[measure] ?? null;
  });
}

export class Charts {
  constructor(section) {
    this.section = section;
    this.own = new History(section.dataset.training);
    this.other = section.dataset.other ? new History(section.dataset.other) : null;
    this.series = [];
    this.chosen = new Map(); // what a box was set to by hand
    this.plots = new Map();
    this.ending = new AbortController();
    const { signal } = this.ending;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw(true), { signal });
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(section);
  }

  /** Leaves the section to another one. */
  dispose() {
    this.ending.abort();
    this.observer.disconnect();
    for (const plot of this.plots.values()) plot.destroy();
    this.plots.clear();
  }

  shown({ id, index }) {
    return this.chosen.get(id) ?? (index === 0 || id === "other" || this.own.lines.size - 1 <= MANY);
  }

  /** Whether this is what a section, of this page or of a fresh one, should show. */
  isOf({ dataset }) {
    return this.own.training === dataset.training && (this.other?.training ?? "") === (dataset.other ?? "");
  }

  async update() {
    await Promise.all([this.own.update(), this.other?.update()]);
    const ids = inOrder([...this.own.lines.keys()]);
    const wanted = [
      ...ids.map((id, index) => ({ id, line: this.own.lines.get(id), of: this.own, index })),
      ...(this.other ? [{ id: "other", line: this.other.lines.get(""), of: this.other, index: ids.length }] : []),
    ];
    const changed = wanted.map(({ id }) => id).join() !== this.series.map(({ id }) => id).join();
    this.series = wanted;
    if (changed) this.list();
    this.draw(changed);
  }

  name({ id, line, index }) {
    if (id === "other") return `training ${this.other.training}`;
    return index === 0 ? line.name : `${line.name} ${id.slice(0, 8)}`;
  }

  colour({ index }) {
    return index === 0 ? getComputedStyle(document.body).color : COLOURS[(index - 1) % COLOURS.length];
  }

  /** The legend: a box for each line. Names are other people's words, so they are set as text. */
  list() {
    const boxes = this.series.map((series) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      const swatch = document.createElement("span");
      const name = document.createElement("span");
      box.type = "checkbox";
      box.checked = this.shown(series);
      box.addEventListener("change", () => {
        this.chosen.set(series.id, box.checked);
        this.draw(true);
      });
      swatch.className = "swatch";
      swatch.style.background = this.colour(series);
      name.className = "name";
      name.textContent = this.name(series);
      label.append(box, swatch, name);
      return label;
    });
    const place = this.section.querySelector("#series");
    place.replaceChildren(place.querySelector("legend"), ...boxes);
  }

  data(measure) {
    const length = Math.max(...this.series.map(({ of }) => of.length()));
    const steps = Array.from({ length }, (_, index) => index + 1);
    const lines = this.series.map(({ line, of }) => values(line, of, measure));
    return [steps, ...lines.map((numbers) => steps.map((_, index) => numbers[index] ?? null))];
  }

  /** A chart without a value is no chart yet: it is hidden. */
  draw(anew) {
    const figures = [...this.section.querySelectorAll("[data-chart]")];
    const drawn = new Map(figures.map((figure) => [figure, this.data(figure.dataset.chart)]));
    for (const [figure, data] of drawn) {
      const none = figure.dataset.chart === "bytes" ? 0 : null;
      figure.hidden = data.slice(1).every((line) => line.every((value) => value === null || value === none));
    }
    this.section.hidden = figures.every((figure) => figure.hidden);
    for (const [figure, data] of drawn) {
      if (figure.hidden) continue;
      const plot = this.plots.get(figure);
      if (plot && !anew) {
        plot.setData(data);
        this.tell(figure, plot);
        continue;
      }
      plot?.destroy();
      this.plots.set(figure, new uPlot(this.options(figure), data, figure));
    }
  }

  /** Says in words what stands under the cursor, or at the end where it is elsewhere. */
  tell(figure, plot) {
    const [steps, ...lines] = plot.data;
    const under = plot.cursor.idx;
    const parts = this.series.flatMap((series, index) => {
      if (!this.shown(series) || (under == null && series.index !== 0 && series.id !== "other")) return [];
      const at = under ?? lines[index].findLastIndex((value) => value !== null);
      const value = lines[index][at] ?? null;
      return value === null ? [] : [`${this.name(series)} ${written(value)}${under == null ? ` after round ${steps[at]}` : ""}`];
    });
    const round = under == null ? "" : `Round ${steps[under]}: `;
    figure.querySelector(".readout").textContent = round + (parts.join(" · ") || (round && "no value"));
  }

  options(figure) {
    const ink = getComputedStyle(document.body).color;
    const grid = { stroke: "rgba(128, 128, 128, 0.25)", width: 1 };
    const axis = { stroke: ink, grid, ticks: grid };
    const line = (series) => ({
      label: this.name(series),
      show: this.shown(series),
      stroke: this.colour(series),
      width: series.index === 0 ? 2.5 : 1.25,
      dash: series.id === "other" ? [6, 4] : series.index > COLOURS.length ? [2, 3] : undefined, // colours begin again
      spanGaps: true,
    });
    return {
      width: figure.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      scales: { x: { time: false } },
      axes: [
        { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : written(tick))) },
      ],
      hooks: {
        ready: [
          (plot) => {
            plot.root.setAttribute("role", "img");
            plot.root.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
            this.tell(figure, plot);
          },
        ],
        setCursor: [(plot) => this.tell(figure, plot)],
      },
      series: [{}, ...this.series.map(line)],
    };
  }

  resize() {
    for (const [figure, plot] of this.plots) plot.setSize({ width: figure.clientWidth, height: HEIGHT });
  }
}
