// What a page says of one request: its way, its replica, and what happened and was logged at that moment.

const AROUND = 1; // seconds before a request was due, and after it ended, of which events and log lines are shown
const MOST_LINES = 40;
const ROUNDED = 0.0001; // seconds by which times in the columns are rounded, and more

/** The panel for a request. */
function describe(view, i) {
  const { requests, data } = view;
  const { words } = requests;
  const due = requests.scheduled[i];
  const ended = due + requests.latency[i];
  const lost = requests.outcome[i] > 0;
  const panel = make("div", "request");
  panel.append(make("h3", "", lost ? `Lost: ${words.outcome[requests.outcome[i]]}` : view.isLate(i) ? "Answered too late" : "Answered"));
  panel.append(
    facts([
      ["due", moment(due, 3)],
      [lost ? "lost after" : "answered after", span(requests.latency[i])],
      ["connection", requests.kept[i] ? "persistent" : "a new one"],
      ["way", words.way[requests.way[i]]],
      ["replica", words.replica[requests.replica[i]] || "unknown: no answer named it"],
      ["app", words.app[requests.app[i]]],
      ["request", words.name[requests.name[i]]],
      ["number", `${requests.number[i]}`],
      ["x-request-id", words.requestId[requests.requestId[i]]],
      ["phase", nameAt(data.phases, due)],
      ["outage", outageAt(data, due)],
    ]),
  );
  const [from, to] = [due - AROUND, ended + AROUND];
  const inside = (one) => one.at >= from && one.at <= to;
  section(panel, "What Serve said", saidAt(data.statuses, due));
  section(panel, "Processes and nodes that were away", awayAt(data.lanes, due, ended));
  section(panel, "What happened around that time", data.events.filter(inside).map((one) => `${moment(one.at)}  ${one.kind.replaceAll("_", " ")}: ${one.text}`));
  const id = words.requestId[requests.requestId[i]];
  section(panel, "Log lines of this request", id ? data.logs.filter((one) => one.text.includes(id)).map((one) => `${moment(one.at)}  ${one.process}: ${one.text}`) : [], "logged");
  const lines = data.logs.filter(inside).map((one) => `${moment(one.at)}  ${one.process}: ${one.text}`);
  if (data.logs.length) section(panel, "Log lines of that time", lines.length ? lines : ["none; the history has only a choice of all log lines"], "logged");
  return panel;
}

function facts(pairs) {
  const list = make("dl", "facts");
  for (const [name, value] of pairs) {
    if (!value) continue;
    const pair = make("div");
    pair.append(make("dt", "", name), make("dd", "", value));
    list.append(pair);
  }
  return list;
}

function section(panel, title, lines, kind = "") {
  if (!lines.length) return;
  panel.append(make("h4", "", title));
  const list = make("ul", kind);
  for (const line of lines.slice(0, MOST_LINES)) list.append(make("li", "", line));
  if (lines.length > MOST_LINES) list.append(make("li", "", `and ${lines.length - MOST_LINES} more`));
  panel.append(list);
}

function holds(one, at) {
  return one.begin <= at && (one.end === null || at < one.end);
}

function nameAt(spans, at) {
  return spans.filter((one) => holds(one, at)).map((one) => one.text).join(", ");
}

function outageAt(data, at) {
  const found = data.outages.find((one) => one.start - ROUNDED <= at && at <= (one.end ?? data.end) + ROUNDED);
  return found ? `from ${moment(found.start)} to ${found.end === null ? "the end" : moment(found.end)}` : "none";
}

/** What Serve said at that moment; what it said of all that is well is one line. */
function saidAt(statuses, at) {
  const said = statuses.flatMap((lane) => lane.spans.filter((one) => holds(one, at)).map((one) => `${lane.subject}: ${one.text}`));
  const well = said.filter((line) => /: (RUNNING|HEALTHY|answers)$/.test(line));
  const others = said.filter((line) => !well.includes(line));
  return [...others, ...(well.length ? [`${others.length ? "everything else" : "everything"} is well (${well.length} statuses)`] : [])];
}

function awayAt(lanes, from, to) {
  const found = [];
  for (const lane of lanes) {
    const there = lane.lives.some((life) => life.begin <= from && (life.end === null || life.end >= to));
    const last = lane.lives.filter((life) => life.end !== null && life.end <= to).at(-1);
    if (!there && last) {
      const next = lane.lives.find((life) => life.begin >= last.end);
      found.push(`${lane.name}: went at ${moment(last.end)}, ${next ? `came at ${moment(next.begin)}` : "and did not come back"}`);
    }
  }
  return found;
}
