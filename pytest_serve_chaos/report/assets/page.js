// Ties a page together: each picture has one view, in which plots and lanes move together.

const NARROW = 700; // pixels of a picture below which names stand above their lanes
const PAPER = 680; // pixels of a picture on paper
const SHORTEST = 0.02; // seconds of the closest view
const KEYS = "Arrow keys move, plus and minus zoom, 0 shows all, F shows the fault, N and P choose the next and previous loss, Enter shows what became of it, Escape closes that.";

function onPaper() {
  return document.documentElement.dataset.theme === "paper";
}

/** The losses of an experiment: in which order, and in which row those of each outcome stand. */
class Losses {
  constructor(requests) {
    this.requests = requests;
    this.indexes = [];
    const numbers = new Map();
    for (let i = 0; i < requests.rows; i++) {
      const outcome = requests.outcome[i];
      if (!outcome) continue;
      this.indexes.push(i);
      numbers.set(outcome, (numbers.get(outcome) ?? 0) + 1);
    }
    this.kinds = [...numbers].sort((a, b) => b[1] - a[1]).map(([outcome, n]) => ({ outcome, n }));
    this.rank = new Map(this.kinds.map(({ outcome }, place) => [outcome, Math.min(place, MOST_OUTCOMES - 1)]));
  }

  row(i) {
    return this.rank.get(this.requests.outcome[i]);
  }
}

/** One experiment's picture. */
class Picture {
  constructor(place, data, requests, strips) {
    this.place = place;
    this.data = data;
    this.requests = requests;
    this.strips = { ...strips, begin: data.strips.begin, width: data.strips.width };
    this.losses = new Losses(requests);
    this.key = place.dataset.picture;
    this.chosen = null;
    this.shown = new Set(["fresh", "kept", ...this.losses.kinds.map((_, place) => `loss-${Math.min(place, MOST_OUTCOMES - 1)}`)]);
    this.ends = [data.begin, Math.max(data.end, data.begin + 1)];
    [this.begin, this.end] = this.ends;
    this.#build();
    this.resize();
    new ResizeObserver(() => requestAnimationFrame(() => this.resize())).observe(place);
  }

  get visible() {
    return firstFrom(this.requests.scheduled, this.end) - firstFrom(this.requests.scheduled, this.begin);
  }

  isLate(i) {
    return !this.requests.outcome[i] && this.data.slowAfter !== null && this.requests.latency[i] > this.data.slowAfter;
  }

  isShown(i) {
    const { outcome, kept } = this.requests;
    return this.shown.has(kept[i] ? "kept" : "fresh") && (!outcome[i] || this.shown.has(`loss-${this.losses.row(i)}`));
  }

  // -- what is on the page ------------------------------------------------------------------------------------------

  #build() {
    this.place.replaceChildren();
    this.live = make("p", "unseen");
    this.live.setAttribute("role", "status");
    this.stage = make("div", "stage");
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "group");
    this.stage.setAttribute("aria-label", `Requests and processes of ${this.place.dataset.title} over time. ${KEYS}`);
    this.stage.addEventListener("keydown", (event) => this.#pressed(event));
    this.latencies = make("div", "plot");
    this.rates = make("div", "plot");
    this.lanes = new Lanes(this.data, this.strips, (text) => this.say(text));
    this.stage.append(
      make("p", "plot-title", "Latency of each request, from the time at which it was due"),
      this.latencies,
      make("p", "plot-title", "Requests per second: answered, late, lost"),
      this.rates,
      this.lanes.element,
    );
    this.panel = make("div", "panel");
    this.panel.hidden = true;
    this.place.append(this.#toolbar(), this.#legend(), this.stage, this.panel, this.#help(), this.live);
    this.place.dataset.requests = this.requests.rows;
    this.place.dataset.losses = this.losses.indexes.length;
    this.place.dataset.lanes = this.data.lanes.length;
  }

  #toolbar() {
    const bar = make("div", "toolbar");
    bar.setAttribute("role", "toolbar");
    bar.setAttribute("aria-label", "View");
    const add = (text, name, act) => {
      const button = make("button", "", text);
      button.type = "button";
      button.setAttribute("aria-label", name);
      button.title = name;
      button.addEventListener("click", act);
      bar.append(button);
    };
    add("−", "Zoom out", () => this.scale(2));
    add("+", "Zoom in", () => this.scale(0.5));
    add("‹", "Earlier", () => this.move(-0.25));
    add("›", "Later", () => this.move(0.25));
    add("All", "Show all", () => this.zoom(...this.ends));
    if (this.data.broken) add("Fault", "Show the fault", () => this.showFault());
    if (this.losses.indexes.length) {
      add("‹ loss", "Previous loss", () => this.step(-1, true));
      add("loss ›", "Next loss", () => this.step(1, true));
    }
    this.range = make("span", "range");
    bar.append(this.range);
    return bar;
  }

  #legend() {
    const legend = make("div", "legend");
    const { fresh, kept: persistent, late, outcomes } = this.requests.counts; // of all, also of those that are not drawn
    const toggle = (name, kind, text) => {
      const button = make("button", `key ${kind}`, text);
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.title = "Show or hide these";
      button.addEventListener("click", () => {
        if (this.shown.has(name)) this.shown.delete(name);
        else this.shown.add(name);
        button.setAttribute("aria-pressed", String(this.shown.has(name)));
        this.redraw();
      });
      legend.append(button);
    };
    if (fresh) toggle("fresh", "fresh", `answered on new connections ${fresh}`);
    if (persistent) toggle("kept", "persistent", `answered on persistent connections ${persistent}`);
    this.losses.kinds.slice(0, MOST_OUTCOMES).forEach(({ outcome: word }, place) => {
      const rest = place === MOST_OUTCOMES - 1 ? this.losses.kinds.slice(MOST_OUTCOMES) : [];
      const n = [{ outcome: word }, ...rest].reduce((sum, kind) => sum + outcomes[kind.outcome], 0);
      const more = `${rest.length ? " and others" : ""} ${n}`;
      toggle(`loss-${place}`, `outcome-${place}`, `${this.requests.words.outcome[word]}${more}`);
    });
    if (late) legend.append(make("span", "key late", `late ${late}`));
    for (const [kind, text, there] of [
      ["outage-key", "outage", this.data.outages.length],
      ["fault-key", "fault", this.data.broken],
      ["healed-key", "healed", this.data.faults.some((fault) => fault.healed !== null && fault.healed <= this.ends[1])],
      ["victim-key", "victim", this.data.lanes.some((lane) => lane.lives.some((life) => life.victim))],
      ["again-key", "new process", this.data.lanes.some((lane) => lane.lives.some((life) => !life.wasThere))],
    ])
      if (there) legend.append(make("span", `key ${kind}`, text));
    return legend;
  }

  #help() {
    const help = make("details", "help");
    help.append(make("summary", "", "Keys"));
    help.append(make("p", "", `${KEYS} Drag in a plot to zoom. A click on a request shows it.`));
    return help;
  }

  say(text) {
    this.live.textContent = text;
  }

  // -- size and colours ---------------------------------------------------------------------------------------------

  /** Draws for the width that there is; what is about to be printed keeps that of paper. */
  resize() {
    const width = onPaper() ? PAPER : this.place.clientWidth;
    if (!width || (width === this.width && this.scatter)) return;
    this.width = width;
    this.rebuild();
  }

  /** Draws both plots anew: for another width, or in other colours. */
  rebuild() {
    if (!this.width) return;
    const narrow = this.width < NARROW;
    this.place.classList.toggle("narrow", narrow);
    const size = { width: this.width, gutter: narrow ? 52 : 230, right: 12 };
    this.scatter?.plot.destroy();
    this.rate?.plot.destroy();
    this.scatter = new Scatter(this, this.latencies, size);
    this.rate = new Rate(this, this.rates, size);
    this.#apply();
  }

  redraw() {
    this.scatter?.plot.redraw(false);
    this.rate?.plot.redraw(false);
  }

  // -- the view -----------------------------------------------------------------------------------------------------

  zoom(from, to) {
    const [first, last] = this.ends;
    let width = Math.min(last - first, Math.max(SHORTEST, to - from));
    if (!Number.isFinite(width)) width = last - first;
    this.begin = Math.min(Math.max(first, from), last - width);
    this.end = this.begin + width;
    this.#apply();
    this.say(`${moment(this.begin)} to ${moment(this.end)}`);
  }

  /** Moves both plots and all lanes to the view. */
  #apply() {
    for (const plot of [this.scatter?.plot, this.rate?.plot]) plot?.setScale("x", { min: this.begin, max: this.end });
    this.lanes.show(this.begin, this.end);
    this.range.textContent = `${moment(this.begin)} to ${moment(this.end)}`;
    this.place.dataset.begin = this.begin.toFixed(4);
    this.place.dataset.end = this.end.toFixed(4);
  }

  scale(factor) {
    const middle = this.chosen !== null && this.#inView(this.chosen) ? this.requests.scheduled[this.chosen] : (this.begin + this.end) / 2;
    const half = ((this.end - this.begin) * factor) / 2;
    this.zoom(middle - half, middle + half);
  }

  move(share) {
    const by = (this.end - this.begin) * share;
    this.zoom(this.begin + by, this.end + by);
  }

  showFault() {
    const last = Math.max(...this.data.faults.map((fault) => fault.landed ?? fault.asked), ...this.data.outages.map((one) => one.end ?? this.data.end));
    this.zoom(-1, Math.max(2, last + 1));
  }

  pointed(at) {
    this.lanes.point(at, this.begin, this.end);
  }

  #inView(i) {
    const due = this.requests.scheduled[i];
    return due >= this.begin && due <= this.end;
  }

  // -- one request --------------------------------------------------------------------------------------------------

  /** Marks a request, and shows what became of it. */
  choose(i, { show = true, focus = false } = {}) {
    this.chosen = i;
    if (!this.#inView(i)) {
      const half = (this.end - this.begin) / 2;
      this.zoom(this.requests.scheduled[i] - half, this.requests.scheduled[i] + half);
    }
    this.redraw();
    if (show) this.#showChosen(focus);
    else this.say(`${this.requests.words.outcome[this.requests.outcome[i]] || "answered"}, due at ${moment(this.requests.scheduled[i])}`);
  }

  #showChosen(focus) {
    const close = make("button", "close", "Close");
    close.type = "button";
    close.addEventListener("click", () => this.closePanel());
    this.panel.replaceChildren(close, describe(this, this.chosen));
    this.panel.hidden = false;
    this.panel.tabIndex = -1;
    if (focus) this.panel.focus();
    this.say(this.panel.querySelector("h3").textContent);
  }

  closePanel() {
    this.panel.hidden = true;
    this.chosen = null;
    this.redraw();
    this.stage.focus({ preventScroll: true });
  }

  /** The next loss from the chosen one, or from the beginning of the view. */
  step(by, show = false) {
    const { indexes } = this.losses;
    if (!indexes.length) return;
    let place = indexes.indexOf(this.chosen);
    if (place < 0) {
      const due = indexes.map((i) => this.requests.scheduled[i]);
      place = by > 0 ? firstFrom(due, this.begin) - 1 : firstFrom(due, this.end);
    }
    this.choose(indexes[(place + by + indexes.length) % indexes.length], { show });
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.stage) return;
    const acts = {
      "+": () => this.scale(0.5),
      "=": () => this.scale(0.5),
      "-": () => this.scale(2),
      0: () => this.zoom(...this.ends),
      ArrowLeft: () => this.move(-0.25),
      ArrowRight: () => this.move(0.25),
      f: () => this.data.broken && this.showFault(),
      n: () => this.step(1),
      p: () => this.step(-1),
      Enter: () => this.chosen !== null && this.#showChosen(true),
      Escape: () => this.closePanel(),
    };
    const act = acts[event.key] ?? acts[event.key.toLowerCase()];
    if (!act) return;
    act();
    event.preventDefault();
  }
}

// -- all pictures of a page -------------------------------------------------------------------------------------------

const pictures = new Map();

async function load(place) {
  if (pictures.has(place)) return;
  pictures.set(place, null);
  try {
    const data = JSON.parse(document.getElementById(place.dataset.picture).textContent);
    const [requests, strips] = await Promise.all([readRequests(data.requests), readColumns(data.strips)]);
    pictures.set(place, new Picture(place, data, requests, strips));
    place.dataset.ready = "true";
  } catch (error) {
    place.replaceChildren(make("p", "note", `The picture cannot be drawn: ${error.message}`));
    console.error(error);
  }
}

/** Loads the pictures that nobody has seen yet, one after the other: paper shows all of them. */
async function loadOthers() {
  for (const place of document.querySelectorAll("[data-picture]")) {
    await new Promise((go) => requestIdleCallback(go, { timeout: 2000 }));
    await load(place);
  }
}

function everyPicture(act) {
  for (const picture of pictures.values()) if (picture) act(picture);
}

/** Unfolds the experiment, or the trials, that a link leads to. */
function openTarget() {
  const target = document.querySelector(".experiment:target, details:target");
  const details = target && (target.matches("details") ? target : target.querySelector(":scope > details"));
  if (details) details.open = true;
}

/** The times of events become buttons that show the moment in the picture. */
function linkMoments(section) {
  const place = section.querySelector("[data-picture]");
  if (!place) return;
  for (const element of section.querySelectorAll(".moment")) {
    const button = make("button", "moment", element.textContent);
    button.type = "button";
    button.title = "Show this moment in the picture";
    const at = Number(element.dataset.at);
    button.addEventListener("click", () => {
      pictures.get(place)?.zoom(at - 2, at + 2);
      place.scrollIntoView({ block: "nearest" });
    });
    element.replaceWith(button);
  }
}

function start() {
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) if (entry.isIntersecting) load(entry.target);
    },
    { rootMargin: "600px" },
  );
  for (const place of document.querySelectorAll("[data-picture]")) near.observe(place);
  for (const section of document.querySelectorAll(".experiment")) linkMoments(section);
  loadOthers();
  window.addEventListener("hashchange", openTarget);
  openTarget();
  const recolour = () => everyPicture((picture) => picture.rebuild());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  let closed = [];
  window.addEventListener("beforeprint", () => {
    document.documentElement.dataset.theme = "paper";
    closed = [...document.querySelectorAll(".experiment > details:not([open])")];
    for (const details of closed) details.open = true;
    everyPicture((picture) => {
      picture.width = PAPER; // also where it is as wide already: its colours change
      picture.rebuild();
    });
  });
  window.addEventListener("afterprint", () => {
    delete document.documentElement.dataset.theme;
    for (const details of closed) details.open = false;
    everyPicture((picture) => {
      picture.width = 0;
      picture.resize();
    });
  });
}

start();
