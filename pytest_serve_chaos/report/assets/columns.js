"use strict";
// The data of an experiment: columns of numbers, which stand in the page deflated and in base64.

/** The bytes that a text in base64 has deflated. */
async function inflated(text) {
  const encoded = atob(text);
  const bytes = new Uint8Array(encoded.length);
  for (let i = 0; i < encoded.length; i++) bytes[i] = encoded.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The columns of a table by name. Each stands as four planes: the lowest bytes of all numbers first. */
async function readColumns(table) {
  const bytes = await inflated(table.packed);
  const found = {};
  table.columns.forEach((name, place) => {
    const column = new Uint32Array(table.rows);
    for (let plane = 0; plane < 4; plane++) {
      const begin = (4 * place + plane) * table.rows;
      for (let i = 0; i < table.rows; i++) column[i] |= bytes[begin + i] << (8 * plane);
    }
    found[name] = column;
  });
  return found;
}

/** The requests of an experiment: times in seconds from the fault, ordered by the time at which they were due. */
async function readRequests(table) {
  const columns = await readColumns(table);
  const scheduled = new Float64Array(table.rows);
  const latency = new Float64Array(table.rows);
  let units = 0;
  for (let i = 0; i < table.rows; i++) {
    units += columns.scheduled[i];
    scheduled[i] = table.first + units * table.unit;
    latency[i] = columns.latency[i] * table.unit;
  }
  return { ...columns, scheduled, latency, rows: table.rows, all: table.all, counts: table.counts, words: table.words };
}

/** The index of the first of these ordered numbers that is `at` or more. */
function firstFrom(ordered, at) {
  let low = 0;
  let high = ordered.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ordered[middle] < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Sums over parts of a view: for each what was sent, lost and late, when it begins, and how many seconds it has. A part is a
 * whole number of strips, so that each has as many; there are no more parts than `most`, or one or two more at the ends.
 */
function counted(strips, begin, end, most) {
  const together = Math.max(1, Math.ceil((end - begin) / strips.width / Math.max(1, most)));
  const seconds = together * strips.width;
  const first = Math.max(0, Math.floor((begin - strips.begin) / seconds));
  const last = Math.min(Math.ceil(strips.sent.length / together), Math.ceil((end - strips.begin) / seconds));
  const parts = [];
  for (let part = first; part < last; part++) {
    const sum = { begin: strips.begin + part * seconds, sent: 0, lost: 0, late: 0 };
    const until = Math.min(strips.sent.length, (part + 1) * together);
    for (let strip = part * together; strip < until; strip++)
      for (const name of ["sent", "lost", "late"]) sum[name] += strips[name][strip];
    parts.push(sum);
  }
  return { seconds, parts };
}

/** A moment in seconds from the fault, for people. */
function moment(at, digits = 2) {
  return `${at < 0 ? "−" : "+"}${Math.abs(at).toFixed(digits)} s`;
}

/** A latency for people. */
function span(seconds) {
  if (seconds < 0.0095) return `${(1000 * seconds).toFixed(1)} ms`;
  return seconds < 0.9995 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toFixed(seconds < 99.95 ? 2 : 0)} s`;
}

/** An element with a class and text in it; text never becomes markup. */
function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}
