// The two plots with axes: latencies as points, and requests a second as bars. uPlot gives axes, scales and the pointer.

const POINT = 3; // pixels of a point, and around a loss
const RUG_ROW = 11; // pixels of a row of losses above the latencies
const MOST_OUTCOMES = 6; // rows of losses; what is rarer shares the last one

/** The colours of a page, as its style sheet has them for light, dark and paper. */
function colours(element) {
  const style = getComputedStyle(element);
  const named = (name) => style.getPropertyValue(name).trim();
  return {
    text: named("--muted"),
    grid: named("--grid"),
    good: named("--point"),
    kept: named("--point-kept"),
    late: named("--late"),
    lost: named("--lost"),
    bar: named("--good"),
    outage: named("--outage-band"),
    fault: named("--fault-line"),
    healed: named("--healed-line"),
    chosen: named("--chosen"),
    outcomes: [0, 1, 2, 3, 4, 5].map((number) => named(`--outcome-${number}`)),
  };
}

/** What all plots have in common: one time axis, no legend, and a selection that zooms. */
function common(view, size, height, axes, scales, series, hooks, padding) {
  return {
    width: size.width,
    height,
    padding,
    legend: { show: false },
    cursor: {
      y: false,
      points: { show: false },
      // A drag in one plot is none in the other: the view moves both.
      sync: {
        key: view.key,
        scales: ["x", null],
        filters: { pub: (type) => type === "mousemove" || type === "mouseleave", sub: () => true },
      },
      bind: {
        dblclick: () => () => {
          view.zoom(...view.ends);
          return null;
        },
      },
      drag: { x: true, y: false, setScale: false, dist: 5 },
    },
    scales: { x: { time: false, range: () => [view.begin, view.end] }, ...scales },
    axes,
    series: [{}, ...series],
    hooks: {
      ...hooks,
      setSelect: [
        (plot) => {
          if (plot.select.width < 5) return;
          const from = plot.posToVal(plot.select.left, "x");
          const to = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          view.zoom(from, to);
        },
      ],
      setCursor: [(plot) => view.pointed(plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null)],
    },
  };
}

function timeAxis(palette, show) {
  return {
    show: true,
    stroke: palette.text,
    size: show ? 28 : 6,
    grid: { stroke: palette.grid, width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
    space: 60,
    values: (plot, splits) => (show ? splits.map((at) => (at > 0 ? `+${round(at)}` : `${round(at)}`.replace("-", "−"))) : splits.map(() => "")),
  };
}

function round(value) {
  return Math.round(value * 1000) / 1000;
}

function valueAxis(palette, gutter, values) {
  return {
    stroke: palette.text,
    size: gutter,
    gap: 6,
    grid: { stroke: palette.grid, width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
    values,
  };
}

/** Bands for outages, and lines where the fault was asked for, landed and was healed. */
function drawBands(plot, view, palette) {
  const pen = plot.ctx;
  const { top, height, left, width } = plot.bbox;
  const x = (at) => Math.min(left + width, Math.max(left, plot.valToPos(at, "x", true)));
  pen.save();
  for (const outage of view.data.outages) {
    const from = x(outage.start);
    pen.fillStyle = palette.outage;
    pen.fillRect(from, top, Math.max(1, x(outage.end ?? view.data.end) - from), height);
  }
  for (const fault of view.data.faults) {
    if (fault.landed !== null) {
      pen.fillStyle = palette.fault;
      pen.globalAlpha = 0.15;
      pen.fillRect(x(fault.asked), top, Math.max(1, x(fault.landed) - x(fault.asked)), height);
      pen.globalAlpha = 1;
    }
    for (const [at, colour, dash] of [
      [fault.asked, palette.fault, []],
      [fault.landed, palette.fault, [2, 3]],
      [fault.ended, palette.fault, [1, 4]],
      [fault.healed, palette.healed, [6, 4]],
    ]) {
      if (at === null || at < view.begin || at > view.end) continue;
      pen.strokeStyle = colour;
      pen.lineWidth = 1.5 * devicePixelRatio;
      pen.setLineDash(dash.map((part) => part * devicePixelRatio));
      pen.beginPath();
      pen.moveTo(x(at), top);
      pen.lineTo(x(at), top + height);
      pen.stroke();
    }
  }
  pen.restore();
}

/** Latencies over time. Losses are crosses where they ended, and ticks in a row for each outcome above. */
class Scatter {
  constructor(view, element, size) {
    this.view = view;
    this.palette = colours(element);
    this.rows = Math.min(MOST_OUTCOMES, view.losses.kinds.length);
    const { latency } = view.requests;
    let [low, high] = [Infinity, 0];
    for (let i = 0; i < latency.length; i++) {
      if (latency[i] > high) high = latency[i];
      if (latency[i] > 0 && latency[i] < low) low = latency[i];
    }
    low = Math.max(1e-4, Math.min(low, 1e-2) / 1.3);
    high = Math.max(high * 1.3, low * 100);
    this.named = size.gutter > 100;
    const axis = valueAxis(this.palette, size.gutter, (plot, splits) => splits.map((value) => (value === null ? "" : shortSpan(value))));
    axis.splits = () => powers(low, high);
    const options = common(
      view,
      size,
      260 + this.rows * RUG_ROW,
      [timeAxis(this.palette, false), axis],
      { y: { distr: 3, range: [low, high] } },
      [{ scale: "y", paths: () => null, points: { show: false } }],
      { drawClear: [(plot) => drawBands(plot, view, this.palette)], draw: [(plot) => this.draw(plot)] },
      [8 + this.rows * RUG_ROW, size.right, 0, 0],
    );
    const { rows, scheduled } = view.requests;
    this.plot = new uPlot(options, rows ? [scheduled, latency] : [[view.begin, view.end], [null, null]], element);
    let pressed = 0;
    this.plot.root.addEventListener("mousedown", (event) => (pressed = event.clientX));
    this.plot.root.addEventListener("click", (event) => {
      if (Math.abs(event.clientX - pressed) < 5) this.#clicked(event); // else it was a drag, which zooms
    });
  }

  draw(plot) {
    const { view, palette } = this;
    const requests = view.requests;
    const pen = plot.ctx;
    const scale = devicePixelRatio;
    const size = Math.max(2, Math.round((view.visible > 20000 ? 2 : POINT) * scale));
    const from = firstFrom(requests.scheduled, view.begin);
    const to = firstFrom(requests.scheduled, view.end + 1e-9);
    const { left, top, width, height } = plot.bbox;
    const across = width / (view.end - view.begin);
    const [low, high] = [Math.log(plot.scales.y.min), Math.log(plot.scales.y.max)];
    const x = (i) => left + (requests.scheduled[i] - view.begin) * across;
    const y = (i) => top + height * (1 - (Math.log(Math.max(requests.latency[i], 1e-5)) - low) / (high - low));
    const taken = new Uint8Array((Math.ceil(width / size) + 2) * (Math.ceil(height / size) + 2));
    const columns = Math.ceil(width / size) + 2;
    pen.save();
    // Answers first, so that no loss is hidden; a place that has a point already needs no second one.
    for (const kept of [1, 0]) {
      if (!view.shown.has(kept ? "kept" : "fresh")) continue;
      pen.fillStyle = kept ? palette.kept : palette.good;
      for (let i = from; i < to; i++) {
        if (requests.outcome[i] || requests.kept[i] !== kept) continue;
        const [px, py] = [x(i), y(i)];
        const late = view.isLate(i);
        const cell = Math.floor((py - top) / size) * columns + Math.floor((px - left) / size);
        if (taken[cell] === 1 + kept && !late) continue;
        taken[cell] = 1 + kept;
        if (late) pen.fillStyle = palette.late;
        pen.fillRect(Math.round(px - size / 2), Math.round(py - size / 2), size, size);
        if (late) pen.fillStyle = kept ? palette.kept : palette.good;
      }
    }
    this.#drawLosses(pen, plot, from, to, x, y);
    this.#names(plot);
    this.#slowLine(plot);
    this.#chosen(plot, x, y);
    pen.restore();
  }

  /** A cross where each loss ended, and a tick in its row. What would be in the same place is drawn once. */
  #drawLosses(pen, plot, from, to, x, y) {
    const { view, palette } = this;
    const scale = devicePixelRatio;
    const arm = 3.2 * scale;
    const rows = Array.from({ length: this.rows }, () => ({ crosses: new Path2D(), ticks: new Path2D(), taken: new Set() }));
    for (const i of view.losses.indexes) {
      if (i < from || i >= to || !view.isShown(i)) continue;
      const row = view.losses.row(i);
      const { crosses, ticks, taken } = rows[row];
      const [px, py] = [Math.round(x(i)), Math.round(y(i))];
      const place = px * 65536 + py;
      if (!taken.has(place)) {
        taken.add(place);
        crosses.moveTo(px - arm, py - arm);
        crosses.lineTo(px + arm, py + arm);
        crosses.moveTo(px - arm, py + arm);
        crosses.lineTo(px + arm, py - arm);
      }
      if (!taken.has(px)) {
        taken.add(px);
        const top = plot.bbox.top - (this.rows - row) * RUG_ROW * scale;
        ticks.rect(px - scale, top, Math.max(1, 2 * scale), (RUG_ROW - 2) * scale);
      }
    }
    pen.lineWidth = 1.6 * scale;
    rows.forEach(({ crosses, ticks }, row) => {
      pen.strokeStyle = palette.outcomes[row];
      pen.fillStyle = palette.outcomes[row];
      pen.stroke(crosses);
      pen.fill(ticks);
    });
  }

  /** What each row of losses is, where there is room. */
  #names(plot) {
    if (!this.named) return;
    const { ctx: pen, bbox } = plot;
    pen.save();
    pen.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let row = 0; row < this.rows; row++) {
      const { outcome } = this.view.losses.kinds[row];
      pen.fillStyle = this.palette.outcomes[row];
      const middle = bbox.top - (this.rows - row - 0.5) * RUG_ROW * devicePixelRatio - devicePixelRatio;
      pen.fillText(this.view.requests.words.outcome[outcome].slice(0, 32), bbox.left - 8 * devicePixelRatio, middle);
    }
    pen.restore();
  }

  /** After how long an answer is late. */
  #slowLine(plot) {
    const { slowAfter } = this.view.data;
    if (slowAfter === null || slowAfter > plot.scales.y.max) return;
    const at = plot.valToPos(slowAfter, "y", true);
    const { left, width } = plot.bbox;
    const pen = plot.ctx;
    pen.save();
    pen.strokeStyle = this.palette.late;
    pen.lineWidth = devicePixelRatio;
    pen.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    pen.beginPath();
    pen.moveTo(left, at);
    pen.lineTo(left + width, at);
    pen.stroke();
    pen.fillStyle = this.palette.text;
    pen.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    pen.textAlign = "right";
    pen.fillText(`late above ${span(slowAfter)}`, left + width - 4 * devicePixelRatio, at - 4 * devicePixelRatio);
    pen.restore();
  }

  #chosen(plot, x, y) {
    const i = this.view.chosen;
    if (i === null) return;
    const [px, py] = [x(i), y(i)];
    const { left, width } = plot.bbox;
    if (px < left || px > left + width) return;
    plot.ctx.strokeStyle = this.palette.chosen;
    plot.ctx.lineWidth = 2 * devicePixelRatio;
    plot.ctx.beginPath();
    plot.ctx.arc(px, py, 7 * devicePixelRatio, 0, 2 * Math.PI);
    plot.ctx.stroke();
  }

  /** Chooses the request that was clicked; a loss before an answer, also by its tick above. */
  #clicked(event) {
    const box = this.plot.over.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    if (px < -12 || px > box.width + 12) return;
    const { view } = this;
    const at = this.plot.posToVal(px, "x");
    const reach = (16 * (view.end - view.begin)) / box.width;
    const from = firstFrom(view.requests.scheduled, at - reach);
    const to = firstFrom(view.requests.scheduled, at + reach);
    let [best, nearest] = [null, 16];
    for (let i = from; i < to; i++) {
      if (!view.isShown(i)) continue;
      const lost = view.requests.outcome[i] > 0;
      const dx = this.plot.valToPos(view.requests.scheduled[i], "x") - px;
      const dy = this.plot.valToPos(Math.max(view.requests.latency[i], 1e-5), "y") - py;
      const inRug = lost && py < 0 ? Math.abs(dx) : Infinity;
      const distance = Math.min(Math.hypot(dx, dy), inRug) - (lost ? 4 : 0);
      if (distance < nearest) [best, nearest] = [i, distance];
    }
    if (best !== null) view.choose(best);
  }
}

function powers(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low)); power <= Math.floor(Math.log10(high)); power++) found.push(10 ** power);
  return found;
}

function shortSpan(seconds) {
  return seconds < 0.999 ? `${round(1000 * seconds)} ms` : `${round(seconds)} s`;
}

/** Requests a second in strips of time: answered, late and lost on top of each other. */
class Rate {
  constructor(view, element, size) {
    this.view = view;
    this.palette = colours(element);
    const options = common(
      view,
      size,
      130,
      [timeAxis(this.palette, true), valueAxis(this.palette, size.gutter, (plot, splits) => splits.map((value) => `${round(value)}`))],
      { y: { range: () => [0, this.#highest() || 1] } },
      [{ scale: "y", paths: () => null, points: { show: false } }],
      { drawClear: [(plot) => drawBands(plot, view, this.palette)], draw: [(plot) => this.draw(plot)] },
      [8, size.right, 0, 0],
    );
    const ends = [view.data.begin, view.data.end];
    this.plot = new uPlot(options, [ends, [0, 1]], element);
  }

  /** As many parts as have room, none narrower than a strip. */
  #sums() {
    const width = (this.plot && this.plot.over.clientWidth) || 600;
    return counted(this.view.strips, this.view.begin, this.view.end, width / 3);
  }

  #highest() {
    const { seconds, parts } = this.#sums();
    return (1.15 * parts.reduce((most, part) => Math.max(most, part.sent), 0)) / seconds;
  }

  draw(plot) {
    const { left, top, width, height } = plot.bbox;
    const { seconds, parts } = this.#sums();
    const most = plot.scales.y.max;
    const pen = plot.ctx;
    const x = (at) => Math.round(Math.min(left + width, Math.max(left, plot.valToPos(at, "x", true))));
    pen.save();
    for (const part of parts) {
      const from = x(part.begin);
      const whole = x(part.begin + seconds) - from;
      const wide = whole > 4 * devicePixelRatio ? whole - devicePixelRatio : whole;
      let bottom = top + height;
      for (const [n, colour] of [
        [part.sent - part.lost - part.late, this.palette.bar],
        [part.late, this.palette.late],
        [part.lost, this.palette.lost],
      ]) {
        const high = (height * n) / seconds / most;
        pen.fillStyle = colour;
        pen.fillRect(from, bottom - high, wide, high);
        bottom -= high;
      }
    }
    pen.restore();
  }
}
