// Elements, numbers and plots. Text enters the page as text nodes alone, so no name can become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const isNumber = (value) => typeof value === "number";

// As `reporting.words.number`: decimals without the leading zero; a value that rounds to 0 has no sign.
function number(value, places = 2, signed = false) {
  if (!isNumber(value)) return "-";
  let text = value.toFixed(places);
  if (!/[1-9]/.test(text)) text = text.replace("-", "");
  else if (signed && value > 0) text = `+${text}`;
  return text.replace(/^([+-]?)0\./, "$1.");
}
// As many decimals as an interval supports: two, or three where it is narrower than .01.
const placesOf = (low, high) => (isNumber(low) && isNumber(high) && high - low < 0.01 ? 3 : 2);
const exact = (value) => (isNumber(value) ? `exactly ${value}` : "undefined");
const interval = (low, high, signed = false, places = placesOf(low, high)) =>
  isNumber(low) && isNumber(high) ? `${number(low, places, signed)} to ${number(high, places, signed)}` : "-";
const whole = (value) => (isNumber(value) ? value.toLocaleString("en-US", { maximumFractionDigits: 1 }) : "-");

function cell(value, text, attributes) {
  return el("td", { title: isNumber(value) ? exact(value) : null, ...attributes }, text ?? number(value));
}

function table(head, rows, caption, className) {
  const cells = (row) => row.map((value, place) => {
    if (value instanceof Node) return value;
    return place ? cell(value, isNumber(value) ? (Number.isInteger(value) ? whole(value) : number(value, 3)) : value ?? "-") : el("th", { scope: "row" }, String(value));
  });
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption ?? "table" }, el("table", { class: className },
    caption ? el("caption", {}, caption) : null,
    el("thead", {}, el("tr", {}, head.map((name) => (name instanceof Node ? name : el("th", { scope: "col" }, name))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, cells(row))))));
}

// A chart with its title and a button that shows the same numbers as a table. `head` and `rows` may be computed late.
function chart(title, note, drawing, head, rows) {
  const body = el("div", {}, drawing);
  let asTable = false;
  const button = el("button", { class: "plain", type: "button", "aria-pressed": "false", click: () => {
    asTable = !asTable;
    button.textContent = asTable ? "show as chart" : "show as table";
    button.setAttribute("aria-pressed", String(asTable));
    body.replaceChildren(asTable ? table(head, rows(), title) : drawing);
  } }, "show as table");
  return el("figure", {}, el("figcaption", {}, el("b", {}, title), button), body, note ? el("p", { class: "quiet" }, note) : null);
}

function legend(...items) {
  return el("p", { class: "legend" }, items.map(([mark, text]) => el("span", {}, svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" }, mark), text)));
}
const lineMark = (name) => svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, class: name });
const dotMark = (name) => svg("circle", { cx: 13, cy: 6, r: 4.5, class: name });
const boxMark = (name) => svg("rect", { x: 5, y: 1, width: 16, height: 10, class: name });

function scale([low, high], [from, to], log = false) {
  const place = log ? Math.log : (value) => value;
  const span = place(high) - place(low) || 1;
  return (value) => Number((from + ((place(value) - place(low)) / span) * (to - from)).toFixed(1));
}

function ticks(low, high, most = 5) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10);
  const first = Math.ceil(low / step - 1e-9), number_ = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: number_ }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
const tickText = (value) => (Math.abs(value) < 1 && value !== 0 ? number(value, Math.abs(value) < 0.01 ? 3 : Number.isInteger(value * 10) ? 1 : 2) : whole(value));

// The frame of a plot: axes with ticks; x() and y() give places in pixels.
function plot({ x, y, xLabel, yLabel, width = 360, height = 250, log = false, left = 46, label }) {
  const toX = scale(x, [left, width - 12], log), toY = scale(y, [height - 40, 12]);
  const xTicks = log ? ticks(Math.log10(x[0]), Math.log10(x[1]), 4).map((power) => 10 ** power) : ticks(...x);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label ?? `${yLabel} by ${xLabel}` },
    ticks(...y, 4).map((value) => [
      svg("line", { class: "grid", x1: left, x2: width - 12, y1: toY(value), y2: toY(value) }),
      svg("text", { class: "tick", x: left - 6, y: toY(value) + 4, "text-anchor": "end" }, tickText(value))]),
    xTicks.map((value) => [
      svg("line", { class: "grid", x1: toX(value), x2: toX(value), y1: 12, y2: height - 40 }),
      svg("text", { class: "tick", x: toX(value), y: height - 24, "text-anchor": "middle" }, tickText(Number(value.toPrecision(2))))]),
    svg("path", { class: "axis", d: `M${left},12V${height - 40}H${width - 12}` }),
    svg("text", { class: "axis-label", x: (left + width - 12) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    svg("text", { class: "axis-label", transform: `translate(12,${(height - 28) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return { node, x: toX, y: toY, add: (...children) => fill(node, {}, children) };
}

// A line through the points that are defined; a gap where one is not.
function path(frame, xs, ys, className = "line") {
  let pen = false;
  const d = xs.map((value, i) => {
    if (!isNumber(ys[i])) { pen = false; return ""; }
    const move = pen ? "L" : "M";
    pen = true;
    return `${move}${frame.x(value)},${frame.y(ys[i])}`;
  }).join("");
  return svg("path", { class: className, d });
}

function band(frame, xs, lows, highs) {
  const there = xs.map((_, i) => i).filter((i) => isNumber(lows[i]) && isNumber(highs[i]));
  const up = there.map((i) => `${frame.x(xs[i])},${frame.y(highs[i])}`), down = there.reverse().map((i) => `${frame.x(xs[i])},${frame.y(lows[i])}`);
  return there.length ? svg("polygon", { class: "band", points: [...up, ...down].join(" ") }) : null;
}

const title = (text) => svg("title", {}, text);

// The ends of an axis that holds all defined values, on round numbers.
function extent(values, step = 0.05) {
  const defined = values.filter(isNumber);
  if (!defined.length) return [0, 1];
  const low = Math.floor(Math.min(...defined) / step + 1e-9) * step, high = Math.ceil(Math.max(...defined) / step - 1e-9) * step;
  return [Number(low.toFixed(6)), Number(Math.max(high, low + step).toFixed(6))];
}

// Dot and interval on a common axis, with the baseline as a dashed line; one row of a table.
function bars(domain, value, low, high, baseline, text, { hollow = null, width = 240, height = 26 } = {}) {
  const x = scale(domain, [8, width - 8]), middle = height / 2;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": text }, title(text),
    ticks(...domain, 4).map((tick) => svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 0, y2: height })),
    isNumber(baseline) ? svg("line", { class: "baseline", x1: x(baseline), x2: x(baseline), y1: 0, y2: height }) : null,
    isNumber(low) && isNumber(high) ? svg("line", { class: "bar", x1: x(low), x2: x(high), y1: middle, y2: middle }) : null,
    isNumber(hollow) ? svg("circle", { class: "hollow", cx: x(hollow), cy: middle, r: 4.5 }) : null,
    isNumber(value) ? svg("circle", { class: "dot", cx: x(value), cy: middle, r: 5 }) : null);
}

function axisOf(domain, width = 240) {
  const x = scale(domain, [8, width - 8]);
  return svg("svg", { viewBox: `0 0 ${width} 18`, class: "chart", "aria-hidden": "true" },
    ticks(...domain, 4).map((tick) => svg("text", { class: "tick", x: x(tick), y: 14, "text-anchor": x(tick) < 20 ? "start" : x(tick) > width - 20 ? "end" : "middle" }, number(tick))));
}

// A cell of a heat map: the number, and a tint by its place between `low` and `high`; negative numbers another hue.
function heatCell(value, low, high, text, attributes) {
  const node = cell(value, text ?? number(value), attributes);
  if (isNumber(value)) {
    const share = value < 0 && low < 0 ? value / low : (value - Math.max(low, 0)) / (high - Math.max(low, 0) || 1);
    const hue = value < 0 && low < 0 ? "var(--orange-rgb)" : "var(--blue-rgb)";
    node.style.backgroundColor = `rgba(${hue}, ${(0.04 + 0.5 * Math.min(1, Math.max(0, share))).toFixed(2)})`;
  }
  return node;
}
