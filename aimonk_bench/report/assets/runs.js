// How runs compare. A part of the page takes the document, what the reader has chosen, and `redraw`, which changes the
// choice and draws the part again; it returns nodes.

const MACRO = "macro average";
const BOARD = [
  ["f1_tuned", "F1"], ["gain", "gain"], ["delta", "vs baseline"], ["f1_validation", "val F1"],
  ["average_precision", "AP"], ["roc_auc", "ROC AUC"], ["seconds", "train s"],
];
const HEAT = [
  ["f1_tuned", "F1 at tuned thresholds"], ["gain", "gain over all positive"],
  ["delta", "difference from the baseline run"], ["f1_default", "F1 at 0.5"], ["precision", "precision"],
  ["recall", "recall"], ["average_precision", "average precision"], ["roc_auc", "ROC AUC"], ["threshold", "threshold"],
];
const COSTS = [
  ["parameters", "parameters, millions"], ["macs", "billions of multiply-accumulates per image"],
  ["images_per_second", "images per second (encoding)"], ["seconds", "seconds of training"],
];
const TUNED = ["f1_tuned", "f1_tuned_low", "f1_tuned_high"];
const SHOWN = 30; // runs of a table before the reader asks for all, beside the special ones

const byId = (doc, id) => doc.runs.find((run) => run.id === id);
const finished = (doc) => doc.ranking.map((id) => byId(doc, id));
const isSpecial = (doc, run) => [doc.selected, doc.simplest, doc.baseline].includes(run.id);
const firstOf = (doc, runs, all) => runs.filter((run, i) => all || i < SHOWN || isSpecial(doc, run));
const more = (shown, runs, click) => shown.length < runs.length && button(`show all ${runs.length} runs`, click, { class: "more" });

// A figure of a run: of attribute `a`, or of the macro average where `a` is -1. One number stands for all rows.
function figure(run, name, a) {
  if (name === "gain") {
    const [f1, floor] = figures(run, ["f1_tuned", "floor_f1"], a);
    return isNumber(f1) && isNumber(floor) ? f1 - floor : null;
  }
  const values = run.figures[name] ?? [];
  return (values.length === 1 || a < 0 ? last(values) : values[a]) ?? null;
}
const figures = (run, names, a) => names.map((name) => figure(run, name, a));

const chips = (run) => run.marks.map(({ word, text }) => el("span", { class: `chip ${word.split(" ")[0]}`, title: text }, word));
const attributeOptions = (doc) => doc.attributes.map((attribute, a) => [a, attribute.name]);
function runOptions(runs) {
  const words = (run) => run.marks.map((mark) => mark.word).filter((word) => word !== "tie").join(", ");
  return runs.map((run) => [run.id, words(run) ? `${run.name} (${words(run)})` : run.name]);
}

// The difference from the baseline run: of the macro average with its simultaneous interval, else with its own.
function versus(run, a) {
  const delta = figure(run, "delta", a), macro = run.versus_baseline;
  const [low, high] = a < 0 ? [macro?.simultaneous_low, macro?.simultaneous_high] : figures(run, ["delta_low", "delta_high"], a);
  if (!isNumber(delta) || !isNumber(low)) return "";
  return [`${number(delta, 3, true)} (${a < 0 ? macro.interval : `${number(low, 3, true)} to ${number(high, 3, true)}`})`, a < 0 && macro.mark && el("span", { class: "chip" }, macro.mark)];
}

function sorted(runs, { sort, down, attribute }) {
  const sign = down ? -1 : 1, value = sort === "name" ? (run) => run.name : (run) => figure(run, sort, attribute);
  const isApart = (run) => sort === "f1_validation" && run.marks.some((mark) => mark.word === "not selected from"); // on other rows
  return runs.sort((one, other) => {
    if (isApart(one) !== isApart(other)) return isApart(one) - isApart(other);
    const [x, y] = [value(one), value(other)];
    if (x === null || y === null) return (x === null) - (y === null); // undefined ones come last
    return sign * (isNumber(x) ? x - y : x.localeCompare(y));
  });
}

function board(doc, choice, redraw) {
  const a = choice.attribute, words = choice.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (run) => words.every((word) => `${run.name} ${run.id}`.toLowerCase().includes(word));
  const runs = sorted(finished(doc).filter(matches), choice), shown = firstOf(doc, runs, choice.all);
  const floor = a < 0 ? last(doc.all_positive) : doc.all_positive[a];
  const domain = extent([floor, ...finished(doc).flatMap((run) => figures(run, TUNED, a))]);
  const isCompared = doc.runs.some((run) => isNumber(figure(run, "delta", a)));
  const head = ([name, text]) => {
    const order = choice.sort !== name ? "none" : choice.down ? "descending" : "ascending";
    const sort = () => redraw({ down: choice.sort === name ? !choice.down : name !== "name", sort: name });
    return el("th", { scope: "col", "aria-sort": order }, button(text, sort));
  };
  const row = (run) => {
    const [value, low, high] = figures(run, TUNED, a), [gain, delta, seconds] = figures(run, ["gain", "delta", "seconds"], a);
    const text = `${exact(value)}; 95 % interval ${interval(low, high, 4)}`;
    return fill(rowOf([run.name, " ", chips(run)],
      bars(domain, [value, low, high], floor, `${run.name}: F1 ${number(value, 3)}, 95 % interval ${interval(low, high, 3)}`),
      cell(value, number(value, placesOf(low, high)), { title: text }), cell(gain, number(gain, 2, true)),
      isCompared && cell(delta, versus(run, a)),
      figures(run, ["f1_validation", "average_precision", "roc_auc"], a).map((one) => cell(one)), cell(seconds, whole(seconds))),
    { class: run.id === doc.simplest ? "strong" : null }, []);
  };
  const columns = BOARD.filter(([name]) => isCompared || name !== "delta").map(head);
  const covered = doc.covered.filter(Boolean).length, some = a < 0 && covered < doc.attributes.length;
  return [
    tools(el("label", {}, "filter by name",
      el("input", { type: "search", value: choice.filter, input: (event) => redraw({ filter: event.target.value }) })),
    select("figures of", [[-1, MACRO], ...attributeOptions(doc)], a, (value) => redraw({ attribute: Number(value) }))),
    el("p", { class: "quiet", role: "status" }, `${runs.length} of ${doc.ranking.length} finished runs. Dot: F1 at tuned thresholds on test `
      + `images; bar: its 95 % interval; dashed line: all positive ${number(floor)}`,
    some && `; macro: over ${covered} of ${doc.attributes.length} attributes, those that every finished run defines`, ". ",
    isCompared && (a < 0 ? "vs baseline: paired difference of macro F1 with its simultaneous interval; equivalent, better, worse: adjusted by "
      + "Holm. " : "vs baseline: paired difference with its interval, not adjusted. "),
    doc.ranking.length > 1 && "tie: not distinguishable from the selected run. val F1 selects."),
    grid("Leaderboard", "board", [head(["name", "run"]), axisOf(domain), ...columns], shown.map(row)),
    more(shown, runs, () => redraw({ all: true })),
  ];
}

function withoutFigures(doc) {
  const rows = doc.runs.filter((run) => run.state !== "done").map((run) => [run.name, run.state, run.reason ?? ""]);
  return rows.length > 0 && table(["run", "state", "reason"], rows, "Runs without figures");
}

function heat(doc, choice, redraw) {
  const runs = finished(doc), shown = firstOf(doc, runs, choice.all), name = choice.heat;
  const columns = [...doc.attributes.keys(), ...(name === "threshold" ? [] : [-1])];
  const values = columns.map((a) => runs.map((run) => figure(run, name, a)).filter(isNumber));
  const highest = values.map((column) => Math.max(...column)), lowest = Math.min(...values.flat());
  const isDifference = name === "gain" || name === "delta";
  const entry = (run) => (a, place) => {
    const value = figure(run, name, a), text = number(value, isDifference ? 3 : 2, isDifference);
    return heatCell(value, lowest, Math.max(...highest), runs.length > 1 && value === highest[place] ? el("b", {}, text, " ●") : text);
  };
  const row = (run) => rowOf([run.name, " ", chips(run)], columns.map(entry(run)));
  return [
    el("h3", {}, "Attributes by run"),
    tools(select("show", HEAT, name, (value) => redraw({ heat: value }))),
    quiet("A darker cell is a higher number; ● marks the highest of a column. Differences that small samples make by chance are marked too: ",
      "see the intervals."),
    grid("Attributes by run", "heat board", ["run", ...columns.map((a) => (a < 0 ? MACRO : doc.attributes[a].name))], shown.map(row)),
    more(shown, runs, () => redraw({ all: true })),
  ];
}

// Of points (x, y) those than which none is cheaper and higher.
function paretoFront(points, moreIsCheaper) {
  const cheapest = [...points].sort((one, other) => (moreIsCheaper ? other.x - one.x : one.x - other.x) || other.y - one.y);
  return cheapest.reduce((front, point) => (!front.length || point.y > last(front).y ? [...front, point] : front), []);
}

function cost(doc, choice, redraw) {
  const runs = finished(doc), costs = COSTS.filter(([name]) => new Set(runs.map((run) => figure(run, name, -1)).filter(isNumber)).size > 1);
  if (!costs.length) return null;
  const [name, label] = costs.find(([key]) => key === choice.cost) ?? costs[0];
  const points = runs.map((run) => {
    const [y, low, high] = figures(run, TUNED, -1);
    return { name: run.name, x: figure(run, name, -1), y, low, high };
  }).filter((point) => isNumber(point.x) && isNumber(point.y));
  const front = paretoFront(points, name === "images_per_second"), isOn = (point) => front.includes(point);
  const column = (key) => points.map((point) => point[key]), xs = column("x");
  const least = Math.min(...xs), most = Math.max(...xs), margin = 0.08 * (most - least), log = least > 0 && most > 20 * least;
  const text = (point) => `${point.name}: ${label} ${whole(point.x)}, macro F1 ${number(point.y, 3)} (${interval(point.low, point.high, 3)})`;
  return [
    el("h3", {}, "What does F1 cost?"),
    costs.length > 1 && tools(select("cost", costs, name, (value) => redraw({ cost: value }))),
    chart({
      name: "Macro F1 against cost", xLabel: label, yLabel: "macro F1", log, height: 340,
      width: Math.max(320, Math.min(720, document.documentElement.clientWidth - 40)), // on a phone the letters stay as large
      x: log ? [least / 1.3, most * 1.3] : [Math.max(0, least - margin), most + margin],
      y: extent(points.flatMap((point) => [point.y, point.low, point.high])),
      note: "Filled dots: no cheaper run has a higher F1 (Pareto front). Bars: 95 % intervals; where they overlap, the order may be chance. "
        + `${front.map((point, i) => `${i + 1}: ${point.name}`).join("; ")}.`,
      marks: (frame) => [frame.path(front.map((point) => point.x), front.map((point) => point.y), "front"),
        points.map((point) => frame.dot(point.x, point.y, point.low, point.high, [isOn(point) ? "dot" : "hollow", "bar faint"], text(point))),
        front.map((point, i) => anchored("halo", frame.x(point.x), frame.y(point.y) - 10, "middle", String(i + 1)))],
      columns: { run: column("name"), [label]: xs, "macro F1": column("y"), low: column("low"), high: column("high"),
        "on the front": points.map((point) => (isOn(point) ? "yes" : "no")) },
    }),
  ];
}
