// Charts drawn as SVG from plain numbers: lines over time, bars, and estimates with whiskers. No markup is ever parsed.
//
// Every chart fills its container, follows its width, answers to mouse, touch and arrow keys with a readout, and carries
// the same numbers as a table below it for those who cannot see or do not trust a picture.

import { make } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const MOST_POINTS = 400;  // drawn of one line; longer ones are averaged in bins
const TABLE_ROWS = 12;

function svg(name, attributes = {}, ...inside) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

/** A number for people: three digits or so, a true minus sign, thin spaces between thousands. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  let text;
  if (Number.isInteger(value) || size >= 1000) text = value.toFixed(0).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
  else if (size >= 100) text = value.toFixed(0);
  else if (size >= 10) text = value.toFixed(1);
  else if (size >= 0.01) text = value.toFixed(2);
  else if (size >= 0.0001) text = value.toFixed(4);
  else text = value.toExponential(1);
  return text.replace("-", "−");
}

/** Round values inside [low, high], about `about` of them. */
export function ticks(low, high, about = 4) {
  const raw = (high - low) / about;
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= raw * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i += 1) values.push(Number((i * step).toPrecision(12)));
  return values;
}

function tickText(value, values) {
  const step = values.length > 1 ? values[1] - values[0] : Math.abs(value) || 1;
  const digits = Math.min(8, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  return value.toFixed(digits).replace(/^(-?\d+)/, (whole) => whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f")).replace("-", "−");
}

function ends(values, zero) {
  let low = Math.min(...values), high = Math.max(...values);
  if (zero) { low = Math.min(low, 0); high = Math.max(high, 0); }
  if (high - low < 1e-9 * Math.max(1, Math.abs(high))) { low -= Math.abs(low) * 0.5 || 1; high += Math.abs(high) * 0.5 || 1; }
  const room = 0.07 * (high - low);
  return [zero && low === 0 ? 0 : low - room, high + room];
}

/** At most about `most` points: neighbours averaged in bins, the last one kept as it is. */
export function thinned(points, most = MOST_POINTS) {
  const size = Math.ceil(points.length / most);
  if (size <= 1) return points;
  const result = [];
  for (let i = 0; i < points.length - 1; i += size) {
    const part = points.slice(i, Math.min(i + size, points.length - 1));
    result.push([0, 1].map((axis) => part.reduce((sum, point) => sum + point[axis], 0) / part.length));
  }
  result.push(points.at(-1));
  return result;
}

/** A centred moving average over a sixteenth of the curve. */
export function smoothed(points) {
  const half = Math.max(1, Math.floor(points.length / 32));
  return points.map(([x], i) => {
    const part = points.slice(Math.max(0, i - half), i + half + 1);
    return [x, part.reduce((sum, point) => sum + point[1], 0) / part.length];
  });
}

function nearest(values, at) {
  let low = 0, high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < at) low = middle; else high = middle;
  }
  return Math.abs(values[low] - at) <= Math.abs(values[high] - at) ? low : high;
}

/** The box every chart stands in: heading, plot, readout, table. Kept across redraws so that focus and hover stay. */
class Frame {
  constructor(host, { title, caption = "", height }) {
    this.host = host;
    this.height = height;
    this.picture = svg("svg", { class: "plot", "aria-hidden": "true", height });
    this.readout = make("output", { class: "readout" });
    this.readout.hidden = true;
    this.box = make("div", { class: "chart-frame", tabindex: 0, role: "img" }, this.picture, this.readout);
    this.body = make("tbody");
    this.head = make("tr");
    const heading = make("figcaption", {}, make("strong", {}, title));
    if (caption) heading.append(" ", make("span", {}, caption));
    this.latest = make("b", { class: "latest" });
    heading.firstChild.after(this.latest);
    const table = make("table", {}, make("thead", {}, this.head), this.body);
    const scroll = make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `${title}, as a table` }, table);
    this.table = make("details", { class: "chart-table" }, make("summary", {}, "Table"), scroll);
    host.replaceChildren(heading, this.box, this.table);
    new ResizeObserver(() => this.redraw?.()).observe(this.box);
    this.box.addEventListener("pointermove", (event) => this.point(event));
    this.box.addEventListener("pointerdown", (event) => this.point(event));
    this.box.addEventListener("pointerleave", () => this.hide());
    this.box.addEventListener("blur", () => this.hide());
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  get width() { return Math.max(160, this.box.clientWidth); }

  point(event) {
    if (!this.stops?.length) return;
    this.show(nearest(this.stops.map((stop) => stop.x), event.clientX - this.box.getBoundingClientRect().left));
  }

  key(event) {
    if (event.key === "Escape") this.hide();
    const last = (this.stops?.length ?? 0) - 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || last < 0) return;
    event.preventDefault();
    this.show(Math.max(0, Math.min(last, (this.at ?? last) + step)));
  }

  show(at) {
    const stop = this.stops[at];
    if (!stop) return;
    this.at = at;
    this.layer.replaceChildren(svg("line", { class: "cursor", x1: stop.x, x2: stop.x, y1: this.top, y2: this.bottom }),
      ...stop.dots.map(({ y, tone }) => svg("circle", { class: `dot t-${tone}`, cx: stop.x, cy: y, r: 4.5 })));
    this.readout.replaceChildren(...stop.lines.map((line) => make("span", {}, line)));
    this.readout.hidden = false;
    const wide = this.readout.offsetWidth;
    const left = stop.x > this.width / 2 ? stop.x - wide - 12 : stop.x + 12;
    this.readout.style.left = `${Math.max(0, Math.min(this.width - wide, left))}px`;
  }

  hide() {
    this.at = undefined;
    this.readout.hidden = true;
    this.layer?.replaceChildren();
  }

  fill(head, rows, summary) {
    this.head.replaceChildren(...head.map((words) => make("th", { scope: "col" }, words)));
    this.body.replaceChildren(...rows.map((row) => make("tr", {}, row.map((words) => make("td", {}, words)))));
    this.box.setAttribute("aria-label", summary);
  }

  paint(parts) {
    this.picture.setAttribute("width", this.width);
    this.layer = svg("g");
    this.picture.replaceChildren(...parts, this.layer);
    if (this.at !== undefined) this.show(Math.min(this.at, this.stops.length - 1));
  }
}

function yAxis(values, place, left, right) {
  return values.flatMap((value) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: place(value), y2: place(value) }),
    svg("text", { class: "tick", x: left - 7, y: place(value), dy: ".32em", "text-anchor": "end" }, tickText(value, values)),
  ]);
}

/** Lines over a shared x axis. `update([{name, tone, points: [[x, y], ...], band: [[x, low, high], ...]}])` redraws. */
export class LineChart {
  constructor(host, { title, caption, xName = "step", zero = false, height = 190, smooth = true }) {
    this.frame = new Frame(host, { title, caption, height });
    this.title = title;
    this.xName = xName;
    this.zero = zero;
    this.smooth = smooth;
    this.series = [];
    this.frame.redraw = () => this.draw();
  }

  update(series) {
    this.series = series.filter((one) => one.points.length).map((one) => ({ ...one, points: thinned(one.points) }));
    const last = this.series.map((one) => (this.series.length > 1 ? `${one.name} ` : "") + number(one.points.at(-1)[1]));
    this.frame.latest.textContent = last.join(" · ");
    const longest = this.series.reduce((a, b) => (b.points.length > a.points.length ? b : a), { points: [] }).points;
    const count = Math.min(TABLE_ROWS, longest.length);
    const picked = Array.from({ length: count }, (_, i) => longest[Math.round((i * (longest.length - 1)) / Math.max(1, count - 1))][0]);
    const rows = picked.map((x) => [number(x), ...this.series.map((one) => {
      const point = one.points[nearest(one.points.map((each) => each[0]), x)];
      return number(point[1]);
    })]);
    const told = this.series.map((one) => `${one.name} from ${number(one.points[0][1])} to ${number(one.points.at(-1)[1])}`);
    this.frame.fill([this.xName, ...this.series.map((one) => one.name)], rows, `${this.title}: ${told.join("; ") || "no numbers yet"}.`);
    this.draw();
  }

  draw() {
    const { frame, series } = this;
    if (!series.length || !frame.box.clientWidth) { frame.stops = []; frame.paint([]); return; }
    const all = series.flatMap((one) => one.points);
    const [low, high] = ends([...all.map((point) => point[1]), ...series.flatMap((one) => (one.band ?? []).flatMap((at) => at.slice(1)))], this.zero);
    let first = Math.min(...all.map((point) => point[0])), last = Math.max(...all.map((point) => point[0]));
    if (first === last) { first -= 1; last += 1; }
    const names = series.length > 1;
    const longest = Math.max(...series.map((one) => one.name.length));
    const left = 44, right = frame.width - (names ? Math.max(62, 16 + 8 * longest) : 10), top = 10, bottom = frame.height - 24;
    const x = (value) => left + ((right - left) * (value - first)) / (last - first);
    const y = (value) => bottom - ((bottom - top) * (value - low)) / (high - low);
    const path = (points) => points.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(" ");
    const xTicks = ticks(first, last, Math.max(3, Math.floor((right - left) / 90)));
    const parts = [...yAxis(ticks(low, high, 4), y, left, right),
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      ...xTicks.map((value) => svg("text", { class: "tick", x: x(value), y: bottom + 17, "text-anchor": "middle" }, tickText(value, xTicks)))];
    for (const { band = [], tone } of series) {
      if (band.length > 1) parts.push(svg("polygon", { class: `band t-${tone}`, points: `${path(band.map((at) => [at[0], at[2]]))} ${path([...band].reverse().map((at) => [at[0], at[1]]))}` }));
    }
    const trends = series.map((one) => (this.smooth && one.points.length > 24 ? smoothed(one.points) : one.points));
    series.forEach((one, i) => {
      if (trends[i] !== one.points) parts.push(svg("polyline", { class: `line faint t-${one.tone}`, points: path(one.points) }));
    });
    const labels = apart(trends.map((points) => y(points.at(-1)[1])), 14);
    trends.forEach((points, i) => {
      const [endX, endY] = points.at(-1), tone = `t-${series[i].tone}`;
      parts.push(svg("polyline", { class: `line ${tone}`, points: path(points) }), svg("circle", { class: `dot ${tone}`, cx: x(endX), cy: y(endY), r: 3 }));
      if (names) parts.push(svg("text", { class: `label ${tone}`, x: x(endX) + 8, y: labels[i], dy: ".32em" }, series[i].name));
    });
    frame.top = top;
    frame.bottom = bottom;
    const leader = series.reduce((a, b) => (b.points.length > a.points.length ? b : a)).points;
    frame.stops = leader.map(([px]) => {
      const dots = [], lines = [`${this.xName} ${number(Math.round(px))}`];
      for (const one of series) {
        const point = one.points[nearest(one.points.map((each) => each[0]), px)];
        if (Math.abs(x(point[0]) - x(px)) > 24) continue;
        dots.push({ y: y(point[1]), tone: one.tone });
        lines.push(`${names ? `${one.name} ` : ""}${number(point[1])}`);
      }
      return { x: x(px), dots, lines };
    });
    frame.paint(parts);
  }
}

function apart(places, gap) {
  const order = places.map((_, i) => i).sort((a, b) => places[a] - places[b]);
  const moved = [...places];
  for (let i = 1; i < order.length; i += 1) moved[order[i]] = Math.max(moved[order[i]], moved[order[i - 1]] + gap);
  return moved;
}

/** Bars from zero. `update([{label, value, title}])`; `every` labels are written so that they do not collide. */
export class BarChart {
  constructor(host, { title, caption, xName = "", yName = "", height = 170 }) {
    this.frame = new Frame(host, { title, caption, height });
    Object.assign(this, { title, xName, yName, bars: [] });
    this.frame.redraw = () => this.draw();
  }

  update(bars) {
    this.bars = bars;
    const total = bars.reduce((sum, bar) => sum + bar.value, 0);
    this.frame.host.hidden = total === 0;
    this.frame.fill([this.xName, this.yName], bars.map((bar) => [bar.title ?? bar.label, number(bar.value)]), `${this.title}: ${number(total)} in all.`);
    this.draw();
  }

  draw() {
    const { frame, bars } = this;
    if (!bars.length || !frame.box.clientWidth) { frame.stops = []; frame.paint([]); return; }
    const most = Math.max(1, ...bars.map((bar) => bar.value));
    const left = 44, right = frame.width - 4, top = 10, bottom = frame.height - 24;
    const y = (value) => bottom - ((bottom - top) * value) / (most * 1.04);
    const wide = (right - left) / bars.length;
    const whole = ticks(0, most, 3).filter((value) => Number.isInteger(value));
    const parts = [...yAxis(whole, y, left, right), svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom })];
    const every = Math.max(1, Math.ceil(bars.filter((bar) => bar.label).length / Math.max(2, Math.floor((right - left) / 64))));
    let labelled = 0;
    frame.stops = bars.map((bar, i) => {
      const x = left + wide * (i + 0.5);
      const gap = Math.min(3, wide * 0.2);
      if (bar.value) parts.push(svg("rect", { class: `bar t-${bar.tone ?? "one"}`, x: left + wide * i + gap / 2, width: Math.max(1, wide - gap), y: y(bar.value), height: bottom - y(bar.value), rx: Math.min(2, wide / 5) }));
      if (bar.label) {
        if (labelled % every === 0 && x < right - 12) parts.push(svg("text", { class: "tick", x, y: bottom + 17, "text-anchor": "middle" }, bar.label));
        labelled += 1;
      }
      return { x, dots: [], lines: [bar.title ?? bar.label, `${number(bar.value)} ${this.yName}`] };
    });
    frame.top = top;
    frame.bottom = bottom;
    frame.paint(parts);
  }
}

/** Estimates as dots with whiskers, one row each: [{name, value, low, high, tone, note}]; a missing end is an arrow. */
export class DotChart {
  constructor(host, { title, caption, valueName = "value" }) {
    this.frame = new Frame(host, { title, caption, height: 60 });
    Object.assign(this, { title, valueName, rows: [] });
    this.frame.redraw = () => this.draw();
    this.frame.box.removeAttribute("tabindex");
  }

  update(rows) {
    this.rows = rows;
    const told = rows.map((row) => `${row.name} ${number(row.value)}`).join("; ");
    const table = rows.map((row) => [row.name, number(row.value), row.low === null ? "open" : number(row.low), row.high === null ? "open" : number(row.high)]);
    this.frame.fill(["model", this.valueName, "low", "high"], table, `${this.title}: ${told}.`);
    this.draw();
  }

  draw() {
    const { frame, rows } = this;
    if (!rows.length || !frame.box.clientWidth) { frame.paint([]); return; }
    const known = rows.flatMap((row) => [row.value, row.low, row.high]).filter((value) => value !== null);
    const [low, high] = ends(known, false);
    const narrow = frame.width < 520;
    const left = narrow ? 10 : Math.min(230, frame.width * 0.3), right = frame.width - (narrow ? 10 : 70);
    const step = narrow ? 50 : 38, top = 8, bottom = top + rows.length * step;
    frame.picture.setAttribute("height", bottom + 26);
    const x = (value) => left + ((right - left) * (value - low)) / (high - low);
    const xTicks = ticks(low, high, Math.max(2, Math.floor((right - left) / 90)));
    const parts = xTicks.flatMap((value) => [
      svg("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: bottom }),
      svg("text", { class: "tick", x: x(value), y: bottom + 17, "text-anchor": "middle" }, tickText(value, xTicks)),
    ]);
    rows.forEach((row, i) => {
      const y = top + step * i + (narrow ? 34 : step / 2), tone = `t-${row.tone ?? "one"}`;
      const from = row.low === null ? left : x(row.low), to = row.high === null ? right : x(row.high);
      const name = row.name.length > 34 ? `${row.name.slice(0, 33)}…` : row.name;
      parts.push(svg("line", { class: `whisker ${tone}`, x1: from, x2: to, y1: y, y2: y }));
      if (row.low === null) parts.push(svg("path", { class: `arrow ${tone}`, d: `M${left + 6},${y - 4} L${left},${y} L${left + 6},${y + 4}` }));
      else parts.push(svg("line", { class: `whisker ${tone}`, x1: from, x2: from, y1: y - 5, y2: y + 5 }));
      if (row.high === null) parts.push(svg("path", { class: `arrow ${tone}`, d: `M${right - 6},${y - 4} L${right},${y} L${right - 6},${y + 4}` }));
      else parts.push(svg("line", { class: `whisker ${tone}`, x1: to, x2: to, y1: y - 5, y2: y + 5 }));
      parts.push(svg("circle", { class: `dot ${tone}`, cx: x(row.value), cy: y, r: 5.5 }, svg("title", {}, `${row.name}: ${row.note ?? number(row.value)}`)));
      parts.push(svg("text", { class: "row-name", x: narrow ? left : left - 14, y: narrow ? y - 16 : y, dy: narrow ? 0 : ".32em", "text-anchor": narrow ? "start" : "end" }, name));
      parts.push(svg("text", { class: "row-value", x: narrow ? right : frame.width - 12, y: narrow ? y - 16 : y, dy: narrow ? 0 : ".32em", "text-anchor": "end" }, number(Math.round(row.value))));
    });
    frame.paint(parts);
  }
}

/** A small line without axes, for a cell of a table. */
export function sparkline(host, points) {
  const width = 96, height = 24;
  const kept = thinned(points, 60);
  if (kept.length < 2) return;
  const [low, high] = ends(kept.map((point) => point[1]), false);
  const first = kept[0][0], last = kept.at(-1)[0];
  const path = kept.map(([px, py]) => `${((width - 4) * (px - first)) / (last - first || 1) + 2},${height - (height * (py - low)) / (high - low)}`).join(" ");
  host.replaceChildren(svg("svg", { class: "spark", width, height, "aria-hidden": "true" }, svg("polyline", { class: "line t-one", points: path })));
}
