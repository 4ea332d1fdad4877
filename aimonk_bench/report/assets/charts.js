// Charts as SVG. What is undefined is not drawn.

const title = (text) => text && svg("title", {}, text);
const line = (className, x1, y1, x2, y2, text) => svg("line", { class: className, x1, y1, x2, y2 }, title(text));
const anchored = (className, x, y, anchor, text) => svg("text", { class: className, x, y, "text-anchor": anchor }, text);

function scale([low, high], [from, to], log = false) {
  const place = log ? Math.log : (value) => value;
  const span = place(high) - place(low) || 1;
  return (value) => Number((from + ((place(value) - place(low)) / span) * (to - from)).toFixed(1));
}

// Round numbers from low to high, with their texts: all of one axis with the same number of decimals.
function ticks(low, high, most = 5, log = false) {
  if (log) return labelled(ticks(Math.log10(low), Math.log10(high), most).map(([power]) => Number((10 ** power).toPrecision(2))));
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= raw) ?? 10);
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
  return labelled(Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12))));
}
function labelled(values) {
  const places = Math.max(...values.map((value) => (String(value).split(".")[1] ?? "").length));
  return values.map((value) => [value, Number.isInteger(value) ? whole(value) : number(value, places)]);
}

// The ends of an axis that holds all defined values, on round numbers.
function extent(values, step = 0.05) {
  const defined = values.filter(isNumber);
  if (!defined.length) return [0, 1];
  const low = Math.floor(Math.min(...defined) / step + 1e-9) * step, high = Math.ceil(Math.max(...defined) / step - 1e-9) * step;
  return [low, Math.max(high, low + step)].map((value) => Number(value.toFixed(6)));
}

// A plot with axes, and what draws into it by values of the axes.
function plot({ x = [0, 1], y = [0, 1], xLabel, yLabel, width = 360, height = 250, log = false }) {
  const left = 46, right = width - 12, top = 12, bottom = height - 40;
  const toX = scale(x, [left, right], log), toY = scale(y, [bottom, top]);
  const point = (at, value) => `${toX(at)},${toY(value)}`;
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": `${yLabel} by ${xLabel}` },
    ticks(...y, 4).map(([at, text]) => [line("grid", left, toY(at), right, toY(at)), anchored("tick", left - 6, toY(at) + 4, "end", text)]),
    ticks(...x, log ? 4 : 5, log).map(([at, text]) => [line("grid", toX(at), top, toX(at), bottom),
      anchored("tick", toX(at), bottom + 16, "middle", text)]),
    svg("path", { class: "axis", d: `M${left},${top}V${bottom}H${right}` }),
    anchored("axis-label", (left + right) / 2, height - 6, "middle", xLabel),
    svg("text", { class: "axis-label", transform: `translate(12,${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return {
    node, x: toX, y: toY,
    level: (value, className, text) => isNumber(value) && line(className, left, toY(value), right, toY(value), text),
    upright: (at, low, high, className, text) => isNumber(at) && isNumber(low) && line(className, toX(at), toY(low), toX(at), toY(high), text),
    dot: (at, value, low, high, [dotClass, barClass], text) => svg("g", {}, title(text),
      isNumber(low) && line(barClass, toX(at), toY(low), toX(at), toY(high)),
      svg("circle", { class: dotClass, cx: toX(at), cy: toY(value), r: 4.5 })),
    path: (xs, ys, className = "line") => { // a gap where a value is undefined
      const move = (i) => (isNumber(ys[i - 1]) ? "L" : "M");
      return svg("path", { class: className, d: xs.map((at, i) => (isNumber(ys[i]) ? move(i) + point(at, ys[i]) : "")).join("") });
    },
    band: (xs, lows, highs) => {
      const defined = [...xs.keys()].filter((i) => isNumber(lows[i]) && isNumber(highs[i]));
      const points = (values) => defined.map((i) => point(xs[i], values[i]));
      return svg("polygon", { class: "band", points: [...points(highs), ...points(lows).reverse()].join(" ") });
    },
  };
}

function legend(items) {
  const mark = (className) => svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" }, className.startsWith("line")
    ? line(className, 0, 6, 26, 6) : svg("rect", { x: 5, y: 1, width: 16, height: 10, class: className }));
  return el("p", { class: "legend" }, items.map(([className, text]) => el("span", {}, mark(className), text)));
}

// A plot, into which `marks` draws, with its name, a note, a legend of [class, text], and a button that shows the same
// numbers as a table: its columns by name, equally long.
function chart({ name, note, marks, columns, legendItems, ...axes }) {
  const frame = plot(axes), drawing = fill(frame.node, {}, [marks(frame)]), body = el("div", {}, drawing);
  let asTable = false;
  const turn = () => {
    asTable = !asTable;
    turner.textContent = asTable ? "show as chart" : "show as table";
    turner.setAttribute("aria-pressed", String(asTable));
    const values = Object.values(columns), rows = values[0].map((_, i) => values.map((column) => column[i]));
    body.replaceChildren(asTable ? table(Object.keys(columns), rows, name, null) : drawing);
  };
  const turner = button("show as table", turn, { class: "plain", "aria-pressed": "false" });
  return el("figure", {}, el("figcaption", {}, el("b", {}, name), turner), body, quiet(note), legendItems && legend(legendItems));
}

// Dot and interval on the common axis of a table, with the baseline as a dashed line and perhaps a ring.
const BARS = 240;
function bars(domain, [value, low, high], baseline, text, ring) {
  const x = scale(domain, [8, BARS - 8]), height = 26, middle = height / 2;
  const circle = (className, at) => isNumber(at) && svg("circle", { class: className, cx: x(at), cy: middle, r: 4.5 });
  return el("td", { class: "bars" }, svg("svg", { viewBox: `0 0 ${BARS} ${height}`, class: "chart", role: "img", "aria-label": text }, title(text),
    ticks(...domain, 4).map(([at]) => line("grid", x(at), 0, x(at), height)),
    isNumber(baseline) && line("baseline", x(baseline), 0, x(baseline), height),
    isNumber(low) && isNumber(high) && line("bar", x(low), middle, x(high), middle), circle("hollow", ring), circle("dot", value)));
}
function axisOf(domain) {
  const x = scale(domain, [8, BARS - 8]), anchor = (at) => (at < 20 ? "start" : at > BARS - 20 ? "end" : "middle");
  const label = ([at, text]) => anchored("tick", x(at), 14, anchor(x(at)), text);
  return el("th", { class: "bars", scope: "col" },
    svg("svg", { viewBox: `0 0 ${BARS} 18`, class: "chart", "aria-hidden": "true" }, ticks(...domain, 4).map(label)));
}

// A cell of a heat map: a text, and a tint by the place of the number between low and high; negative ones have another hue.
function heatCell(value, low, high, text, attributes) {
  const node = cell(value, text, attributes);
  if (isNumber(value)) {
    const below = value < 0 && low < 0, least = Math.max(low, 0), share = below ? value / low : (value - least) / (high - least || 1);
    const opacity = 0.04 + 0.5 * Math.min(1, Math.max(0, share));
    node.style.backgroundColor = `rgba(var(${below ? "--orange-rgb" : "--blue-rgb"}), ${opacity.toFixed(2)})`;
  }
  return node;
}
