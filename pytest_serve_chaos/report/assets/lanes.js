// A lane for each node and process, for what answered and for what Serve said; all below the same seconds.

const MANY_LANES = 40; // of more, those in which nothing happened are folded

/** The lanes of an experiment, as elements whose spans move when the view changes. */
class Lanes {
  constructor(data, strips, say) {
    this.data = data;
    this.strips = strips;
    this.say = say;
    this.spans = []; // {element, begin, end}: what moves with the view
    this.marks = []; // {element, at}
    this.element = make("div", "lanes");
    this.bands = make("div", "bands");
    this.element.append(this.bands);
    this.#phases();
    this.#answered();
    this.#serveSaid();
    this.#processes();
    this.#fault();
    this.pointer = make("div", "pointer");
    this.pointer.hidden = true;
    this.bands.append(this.pointer);
  }

  #heading(text) {
    this.element.append(make("p", "lanes-title", text));
  }

  /** Names without the app of a replica, where that leaves no two alike. */
  #shortNames() {
    const names = this.data.lanes.map((lane) => lane.name);
    const short = names.map((name) => name.replace(/^replica [^#]*#/, "replica "));
    const alike = new Set(short).size < names.length;
    return new Map(names.map((name, place) => [name, alike ? name : short[place]]));
  }

  #row(name, kind, description, whole = name) {
    const row = make("div", `lane ${kind}`);
    const title = make("span", "lane-name", name);
    title.title = whole;
    const track = make("div", "track");
    track.setAttribute("role", "img");
    track.setAttribute("aria-label", `${whole}: ${description}`);
    row.append(title, track);
    this.element.append(row);
    return { row, track };
  }

  #place(track, begin, end, kind, text, hint) {
    const element = make("span", `span ${kind}`);
    if (text) element.append(make("span", "span-text", text));
    element.title = hint;
    track.append(element);
    this.spans.push({ element, begin, end: end ?? this.data.end });
    return element;
  }

  #mark(track, at, kind, hint) {
    const element = make("span", `mark ${kind}`);
    element.title = hint;
    track.append(element);
    this.marks.push({ element, at });
  }

  #phases() {
    if (!this.data.phases.length) return;
    const words = this.data.phases.map((one) => `${one.text} from ${moment(one.begin)}`).join(", ");
    const { track } = this.#row("phase", "phases", words);
    for (const one of this.data.phases) this.#place(track, one.begin, one.end, "phase", one.text, `${one.text}: ${moment(one.begin)} to ${moment(one.end)}`);
  }

  /** The share of requests that were answered well and in time, strip by strip. */
  #answered() {
    this.#heading("What answered");
    const { row, track } = this.#row("requests", "answered", "share of good answers over time; the table of events has the outages");
    this.canvas = make("canvas");
    track.append(this.canvas);
    row.dataset.lane = "answered";
    for (const outage of this.data.outages) {
      const end = outage.end ?? this.data.end;
      this.#place(track, outage.start, end, "outage", "", `outage of ${span(end - outage.start)}: ${outage.text}`);
    }
  }

  #serveSaid() {
    if (!this.data.statuses.length) return;
    this.#heading("What Serve said");
    for (const lane of this.data.statuses) {
      const words = lane.spans.map((one) => `${one.text} from ${moment(one.begin)}`).join(", ");
      const { row, track } = this.#row(lane.subject, "status", words);
      row.dataset.lane = "status";
      for (const one of lane.spans) {
        const end = one.end ?? this.data.end;
        this.#place(track, one.begin, end, `said ${this.#mood(one.text)}`, one.text, `${one.text}: ${moment(one.begin)} to ${moment(end)}`);
      }
    }
  }

  #mood(status) {
    if (["RUNNING", "HEALTHY", "answers"].includes(status)) return "well";
    return ["UNHEALTHY", "DEPLOY_FAILED", "does not answer", "DRAINED"].includes(status) ? "unwell" : "between";
  }

  #processes() {
    if (!this.data.lanes.length) return;
    this.#heading("Processes and nodes");
    const quiet = [];
    const short = this.#shortNames();
    for (const lane of this.data.lanes) {
      const words = lane.lives.map((life) => this.#words(life)).join(", then ");
      const { row, track } = this.#row(short.get(lane.name), "process", words, lane.name);
      row.dataset.lane = "process";
      row.dataset.role = lane.role;
      lane.lives.forEach((life, number) => this.#life(track, life, number));
      for (const mark of lane.marks) this.#mark(track, mark.at, mark.kind, `${mark.text} at ${moment(mark.at)}`);
      const whole = lane.lives.length === 1 && lane.lives[0].wasThere && lane.lives[0].end === null;
      if (whole && !lane.lives[0].victim && !lane.marks.length) quiet.push(row);
    }
    if (this.data.lanes.length > MANY_LANES && quiet.length) this.#fold(quiet);
  }

  #fold(rows) {
    const button = make("button", "fold", `Show ${rows.length} lanes in which nothing changed`);
    button.type = "button";
    for (const row of rows) row.hidden = true;
    button.addEventListener("click", () => {
      for (const row of rows) row.hidden = false;
      button.remove();
      this.say(`${rows.length} more lanes are shown`);
    });
    this.element.append(button);
  }

  #words(life) {
    const who = life.pid === null ? life.identity : `PID ${life.pid}`;
    const began = life.wasThere ? "" : ` from ${moment(life.begin)}`;
    const ended = life.end === null ? "" : ` until ${moment(life.end)}`;
    return `${who}${life.victim ? ", a victim" : ""}${began}${ended}`;
  }

  #life(track, life, number) {
    const kind = life.victim ? "victim" : life.wasThere ? "first" : number ? "again" : "came";
    const shown = life.pid === null ? life.machine ?? "" : `PID ${life.pid}`;
    const more = [life.identity, life.machine, life.replica].filter(Boolean).join("\n");
    const element = this.#place(track, life.begin, life.end, `life ${kind}`, shown, `${this.#words(life)}\n${more}`);
    if (life.end !== null) element.classList.add("ended");
    if (!life.wasThere) element.classList.add("began");
  }

  /** The bands of the faults and of the outages behind all lanes. */
  #fault() {
    for (const outage of this.data.outages) this.#place(this.bands, outage.start, outage.end, "band outage-band", "", "");
    for (const fault of this.data.faults) {
      if (fault.landed !== null) this.#place(this.bands, fault.asked, fault.landed, "band fault-band", "", "");
      for (const name of ["asked", "landed", "ended", "healed"])
        if (fault[name] !== null) this.#mark(this.bands, fault[name], `line ${name}`, `${name}: ${fault.text}`);
    }
  }

  /** Moves everything to where it is in this view. */
  show(begin, end) {
    const percent = (at) => (100 * (at - begin)) / (end - begin);
    for (const { element, begin: from, end: to } of this.spans) {
      const left = Math.max(0, percent(from));
      const right = Math.min(100, percent(to));
      element.hidden = right < 0 || left > 100 || right < left;
      element.style.left = `${left}%`;
      element.style.width = `${Math.max(0, right - left)}%`;
    }
    for (const { element, at } of this.marks) {
      const left = percent(at);
      element.hidden = left < 0 || left > 100;
      element.style.left = `${left}%`;
    }
    this.#drawAnswered(begin, end);
  }

  /** The same line in all lanes as in the plots; null: none. */
  point(at, begin, end) {
    this.pointer.hidden = at === null || at < begin || at > end;
    if (!this.pointer.hidden) this.pointer.style.left = `${(100 * (at - begin)) / (end - begin)}%`;
  }

  #drawAnswered(begin, end) {
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width || !height) return;
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    const colours = getComputedStyle(this.element);
    const { seconds, parts } = counted(this.strips, begin, end, width / 2);
    const x = (at) => ((at - begin) / (end - begin)) * this.canvas.width;
    for (const part of parts) {
      if (!part.sent) continue;
      const from = Math.floor(x(part.begin));
      const wide = Math.ceil(x(part.begin + seconds)) - from;
      let top = 0;
      for (const [share, colour] of [
        [part.lost / part.sent, "--lost"],
        [part.late / part.sent, "--late"],
        [1, "--good"],
      ]) {
        const high = Math.min(this.canvas.height - top, Math.ceil(share * this.canvas.height));
        pen.fillStyle = colours.getPropertyValue(colour);
        pen.fillRect(from, top, wide, high);
        top += high;
      }
    }
  }
}
