// Elements, numbers and plots. Text enters the page as text nodes alone, so no name can become markup.

const SVG = "http://www.w3.org/2000/svg";

// Control characters and marks that change the direction of what follows, as escapes; line ends and tabs stay.
function visible(text) {
  const escape = (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(/(?![\n\t])[\p{Cc}\p{Cf}\u2028\u2029]/gu, escape);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  const there = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== "");
  node.append(...there.map((child) => (typeof child === "string" ? visible(child) : child)));
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

function headRow(heads) {
  return el("thead", {}, el("tr", {}, heads.map((head) => (head instanceof Node ? head : el("th", { scope: "col" }, head)))));
}

// A table that scrolls by itself, also by the keyboard. `rows` are elements.
function grid(label, className, heads, rows, caption) {
  const inside = [caption ? el("caption", {}, caption) : null, headRow(heads), el("tbody", {}, rows)];
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, el("table", { class: className }, inside));
}

// A table of plain values: the first of a row is its name.
function table(heads, rows, caption) {
  const text = (value) => (Number.isInteger(value) ? whole(value) : isNumber(value) ? number(value, 3) : value ?? "-");
  const row = ([name, ...values]) => el("tr", {}, el("th", { scope: "row" }, isNumber(name) ? number(name, 3) : name),
    values.map((value) => cell(value, text(value))));
  return grid(caption, null, heads, rows.map(row), caption);
}

// A chart with its title, a note, and a button that shows the same numbers as a table; `rows` are computed when asked.
function chart(name, note, drawing, heads, rows) {
  const body = el("div", {}, drawing);
  let asTable = false;
  const turn = () => {
    asTable = !asTable;
    button.textContent = asTable ? "show as chart" : "show as table";
    button.setAttribute("aria-pressed", String(asTable));
    body.replaceChildren(asTable ? table(heads, rows(), name) : drawing);
  };
  const button = el("button", { class: "plain", type: "button", "aria-pressed": "false", click: turn }, "show as table");
  return el("figure", {}, el("figcaption", {}, el("b", {}, name), button), body, note ? el("p", { class: "quiet" }, note) : null);
}

function legend(...items) {
  const shape = (mark) => svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" }, mark);
  return el("p", { class: "legend" }, items.map(([mark, text]) => el("span", {}, shape(mark), text)));
}
const lineMark = (name) => svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, class: name });
const boxMark = (name) => svg("rect", { x: 5, y: 1, width: 16, height: 10, class: name });

function scale([low, high], [from, to], log = false) {
  const place = log ? Math.log : (value) => value;
  const span = place(high) - place(low) || 1;
  return (value) => Number((from + ((place(value) - place(low)) / span) * (to - from)).toFixed(1));
}

function ticks(low, high, most = 5) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= raw) ?? 10);
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
function tickText(value) {
  if (value === 0 || Math.abs(value) >= 1) return whole(value);
  return number(value, Math.abs(value) < 0.01 ? 3 : Number.isInteger(Number((value * 10).toFixed(6))) ? 1 : 2);
}

// The frame of a plot: axes with ticks; x() and y() give places in pixels.
function plot({ x, y, xLabel, yLabel, width = 360, height = 250, log = false }) {
  const left = 46, right = width - 12, top = 12, bottom = height - 40;
  const toX = scale(x, [left, right], log), toY = scale(y, [bottom, top]);
  const powers = () => ticks(Math.log10(x[0]), Math.log10(x[1]), 4).map((power) => Number((10 ** power).toPrecision(2)));
  const line = (x1, x2, y1, y2) => svg("line", { class: "grid", x1, x2, y1, y2 });
  const text = (className, attributes, content) => svg("text", { class: className, ...attributes }, content);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": `${yLabel} by ${xLabel}` },
    ticks(...y, 4).map((value) => [line(left, right, toY(value), toY(value)),
      text("tick", { x: left - 6, y: toY(value) + 4, "text-anchor": "end" }, tickText(value))]),
    (log ? powers() : ticks(...x)).map((value) => [line(toX(value), toX(value), top, bottom),
      text("tick", { x: toX(value), y: bottom + 16, "text-anchor": "middle" }, tickText(value))]),
    svg("path", { class: "axis", d: `M${left},${top}V${bottom}H${right}` }),
    text("axis-label", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    text("axis-label", { transform: `translate(12,${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return { node, x: toX, y: toY, ends: [left, right], add: (...children) => fill(node, {}, children) };
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
  const there = [...xs.keys()].filter((i) => isNumber(lows[i]) && isNumber(highs[i]));
  const points = (values) => there.map((i) => `${frame.x(xs[i])},${frame.y(values[i])}`);
  return there.length ? svg("polygon", { class: "band", points: [...points(highs), ...points(lows).reverse()].join(" ") }) : null;
}

// A line across the plot at a height, and one upwards at a place.
function level(frame, y, className, text) {
  const [from, to] = frame.ends;
  return svg("line", { class: className, x1: from, x2: to, y1: frame.y(y), y2: frame.y(y) }, title(text));
}
function upright(frame, x, low, high, className, ...children) {
  return svg("line", { class: className, x1: frame.x(x), x2: frame.x(x), y1: frame.y(low), y2: frame.y(high) }, children);
}

const title = (text) => svg("title", {}, text);

// The ends of an axis that holds all defined values, on round numbers.
function extent(values, step = 0.05) {
  const defined = values.filter(isNumber);
  if (!defined.length) return [0, 1];
  const low = Math.floor(Math.min(...defined) / step + 1e-9) * step, high = Math.ceil(Math.max(...defined) / step - 1e-9) * step;
  return [low, Math.max(high, low + step)].map((value) => Number(value.toFixed(6)));
}

// Dot and interval on a common axis, with the baseline as a dashed line and perhaps a ring: one row of a table.
const BARS = 240;
function bars(domain, value, low, high, baseline, text, ring = null) {
  const x = scale(domain, [8, BARS - 8]), height = 26, middle = height / 2;
  const line = (name, x1, x2, y1, y2) => svg("line", { class: name, x1, x2, y1, y2 });
  return svg("svg", { viewBox: `0 0 ${BARS} ${height}`, class: "chart", role: "img", "aria-label": text }, title(text),
    ticks(...domain, 4).map((tick) => line("grid", x(tick), x(tick), 0, height)),
    isNumber(baseline) ? line("baseline", x(baseline), x(baseline), 0, height) : null,
    isNumber(low) && isNumber(high) ? line("bar", x(low), x(high), middle, middle) : null,
    isNumber(ring) ? svg("circle", { class: "hollow", cx: x(ring), cy: middle, r: 4.5 }) : null,
    isNumber(value) ? svg("circle", { class: "dot", cx: x(value), cy: middle, r: 5 }) : null);
}

function axisOf(domain) {
  const x = scale(domain, [8, BARS - 8]), anchor = (place) => (place < 20 ? "start" : place > BARS - 20 ? "end" : "middle");
  const label = (tick) => svg("text", { class: "tick", x: x(tick), y: 14, "text-anchor": anchor(x(tick)) }, number(tick));
  return svg("svg", { viewBox: `0 0 ${BARS} 18`, class: "chart", "aria-hidden": "true" }, ticks(...domain, 4).map(label));
}

// A cell of a heat map: the number, and a tint by its place between `low` and `high`; negative numbers another hue.
function heatCell(value, low, high, text, attributes) {
  const node = cell(value, text, attributes);
  if (isNumber(value)) {
    const below = value < 0 && low < 0, least = Math.max(low, 0), share = below ? value / low : (value - least) / (high - least || 1);
    const opacity = 0.04 + 0.5 * Math.min(1, Math.max(0, share));
    node.style.backgroundColor = `rgba(var(${below ? "--orange-rgb" : "--blue-rgb"}), ${opacity.toFixed(2)})`;
  }
  return node;
}
