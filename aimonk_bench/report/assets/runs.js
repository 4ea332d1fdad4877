// The sections that compare runs. A section takes the document, what the reader has chosen, and `redraw`, which changes
// the choice and draws the section again; it returns nodes.

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
const SHOWN = 30; // runs of a table before the reader asks for all, beside the special ones

const last = (values) => values?.[values.length - 1];
const byId = (doc, id) => doc.runs.find((run) => run.id === id);
const finished = (doc) => doc.ranking.map((id) => byId(doc, id));
const firstOf = (doc, runs) => runs.filter((run, i) => i < SHOWN || [doc.selected, doc.simplest, doc.baseline].includes(run.id));

// A figure of a run: of attribute `a`, or of the macro average where `a` is -1. One number stands for all rows.
function figure(run, name, a) {
  if (name === "gain") {
    const f1 = figure(run, "f1_tuned", a), floor = figure(run, "floor_f1", a);
    return isNumber(f1) && isNumber(floor) ? f1 - floor : null;
  }
  const values = run.figures[name];
  if (!values) return null;
  return values.length === 1 ? values[0] : values[a < 0 ? values.length - 1 : a] ?? null;
}
const figures = (run, names, a) => names.map((name) => figure(run, name, a));
const TUNED = ["f1_tuned", "f1_tuned_low", "f1_tuned_high"];

function fromSelected(run) {
  const { value, simultaneous_low: low, simultaneous_high: high } = run.versus_selected ?? {};
  return `macro F1 ${number(value, 3, true)} (${interval(low, high, true, 3)})`;
}

function chips(doc, run) {
  const several = doc.kind === "suite";
  const marks = [
    [several && run.id === doc.selected, "selected", "best on validation rows"],
    [several && run.id === doc.simplest, "simplest", "the simplest of the runs that are not measurably worse"],
    [run.id === doc.baseline, "baseline", "the run that the others are compared with"],
    [doc.ties.includes(run.id), "tie", `not distinguishable from the selected run: ${fromSelected(run)}`],
    [!run.candidate, "other labels", "not selected from: validation labels, seeds or version differ from those of the baseline"],
    [run.versus_selected?.mark === "worse", "worse", `worse than the selected run: ${fromSelected(run)}`],
  ];
  return marks.filter(([holds]) => holds).map(([, name, text]) => el("span", { class: `chip ${name.split(" ")[0]}`, title: text }, name));
}

function select(label, options, value, change) {
  const choices = options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text));
  return el("label", {}, label, el("select", { change: (event) => change(event.target.value) }, choices));
}
function attributeOptions(doc, withMacro) {
  return [...(withMacro ? [[-1, MACRO]] : []), ...doc.attributes.map((attribute, a) => [a, attribute.name])];
}
function runOptions(doc, withCurves) {
  const mark = (run) => (run.id === doc.simplest ? " (simplest)" : run.id === doc.selected ? " (selected)" : "");
  return finished(doc).filter((run) => !withCurves || doc.curves[run.id])
    .map((run) => [run.id, `${run.name}${doc.kind === "suite" ? mark(run) : ""}`]);
}

function card(heading, name, [value, low, high], lines) {
  return el("div", { class: "card" }, el("h3", {}, heading), el("p", { class: "name" }, name),
    el("p", { class: "large", title: exact(value) }, number(value, placesOf(low, high))),
    lines.filter(Boolean).map((line) => el("p", { class: "quiet" }, line)));
}

function runCard(doc, id, heading, note) {
  const run = byId(doc, id), values = figures(run, TUNED, -1);
  const [parameters, speed, seconds] = figures(run, ["parameters", "images_per_second", "seconds"], -1);
  const fast = isNumber(speed) ? `, ${whole(speed)} images per second` : "";
  return card(heading, run.name, values, [
    `macro F1 on test images, 95 % interval ${interval(values[1], values[2])}; all positive ${number(last(doc.all_positive))}`,
    `${run.columns.backbone}, ${number(parameters, 1)} million parameters${fast}, trained in ${whole(seconds)} s`, note]);
}

// How many folds select each run: "a (2 folds), b".
function counted(doc, ids) {
  const folds = (id) => ids.filter((other) => other === id).length;
  return [...new Set(ids)].map((id) => `${byId(doc, id).name} (${folds(id)} of ${ids.length} folds)`).join(", ");
}

function recommended(doc) {
  const several = doc.kind === "suite", same = several && doc.simplest === doc.selected, cards = [];
  if (doc.simplest) {
    const heading = several ? "The simplest run that is not measurably worse" : "The run";
    cards.push(runCard(doc, doc.simplest, heading, same ? "It is the selected run too." : ""));
  }
  if (doc.selected && doc.selected !== doc.simplest) {
    cards.push(runCard(doc, doc.selected, "Selected on validation rows", "Its figure is a little too high, because it was selected."));
  }
  if (doc.nested) {
    const values = TUNED.map((name) => last(doc.nested[name]));
    const text = "each fold is tested with the run that its own validation rows select";
    cards.push(card("The figure to report: nested model selection", "selected per fold", values,
      [`macro F1, 95 % interval ${interval(values[1], values[2])}: ${text}`, `selected: ${counted(doc, doc.nested_runs)}`]));
  }
  const warnings = doc.warnings.map((line) => el("li", {}, line));
  return [el("p", { class: "verdict" }, doc.verdict), doc.plainly ? el("p", {}, doc.plainly) : null,
    el("div", { class: "cards" }, cards), warnings.length ? el("ul", { class: "warnings", "aria-label": "Warnings" }, warnings) : null];
}

// The difference from the baseline run: of the macro average with its simultaneous interval, else with its own.
function versus(run, a) {
  const delta = figure(run, "delta", a), macro = run.versus_baseline;
  const [low, high] = a < 0 ? [macro?.simultaneous_low, macro?.simultaneous_high] : figures(run, ["delta_low", "delta_high"], a);
  if (!isNumber(delta) || !isNumber(low)) return "";
  const mark = a < 0 && macro.mark ? el("span", { class: "chip" }, macro.mark) : null;
  return el("span", {}, `${number(delta, 3, true)} (${interval(low, high, true, 3)})`, mark);
}

function sorted(runs, choice) {
  const sign = choice.down ? -1 : 1;
  if (choice.sort === "ranking") return runs;
  if (choice.sort === "name") return runs.sort((one, other) => sign * one.name.localeCompare(other.name));
  return runs.sort((one, other) => {
    const [x, y] = [one, other].map((run) => figure(run, choice.sort, choice.attribute));
    return isNumber(x) && isNumber(y) ? sign * (x - y) : isNumber(y) - isNumber(x); // undefined ones come last
  });
}

function board(doc, choice, redraw) {
  const a = choice.attribute, words = choice.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (run) => words.every((word) => `${run.name} ${run.id}`.toLowerCase().includes(word));
  const runs = sorted(finished(doc).filter(matches), choice), shown = choice.all ? runs : firstOf(doc, runs);
  const floor = a < 0 ? last(doc.all_positive) : doc.all_positive[a];
  const domain = extent([floor, ...runs.flatMap((run) => figures(run, TUNED, a))]);
  const columns = BOARD.filter(([name]) => name !== "delta" || doc.runs.some((run) => isNumber(figure(run, "delta", a))));
  const compared = columns.length === BOARD.length;
  const head = (name, text) => {
    const sort = () => redraw({ down: choice.sort === name ? !choice.down : name !== "name", sort: name });
    const order = choice.sort !== name ? "none" : choice.down ? "descending" : "ascending";
    return el("th", { scope: "col", "aria-sort": order }, el("button", { type: "button", click: sort }, text));
  };
  const row = (run) => {
    const [value, low, high] = figures(run, TUNED, a), gain = figure(run, "gain", a), seconds = figure(run, "seconds", a);
    const text = `${run.name}: F1 ${number(value, 3)}, 95 % interval ${interval(low, high, false, 3)}`;
    return el("tr", { class: run.id === doc.simplest ? "strong" : null },
      el("th", { scope: "row" }, run.name, " ", chips(doc, run)),
      el("td", { class: "bars" }, bars(domain, value, low, high, floor, text)),
      cell(value, number(value, placesOf(low, high)), { title: `${exact(value)}; 95 % interval ${interval(low, high, false, 4)}` }),
      cell(gain, number(gain, 2, true)), compared ? cell(figure(run, "delta", a), versus(run, a)) : null,
      figures(run, ["f1_validation", "average_precision", "roc_auc"], a).map((number_) => cell(number_)),
      cell(seconds, whole(seconds)));
  };
  const heads = [head("name", "run"), el("th", { class: "bars", scope: "col" }, axisOf(domain)), ...columns.map((column) => head(...column))];
  const difference = !compared ? "" : a < 0
    ? "vs baseline: paired difference of macro F1 with its simultaneous interval; equivalent, better, worse: adjusted by Holm."
    : "vs baseline: paired difference with its interval, not adjusted.";
  const over = doc.covered.filter(Boolean).length, all = doc.attributes.length;
  const covered = a < 0 && over < all ? `; macro: over ${over} of ${all} attributes, those that every finished run defines` : "";
  return [
    el("div", { class: "tools" },
      el("label", {}, "filter by name",
        el("input", { type: "search", value: choice.filter, input: (event) => redraw({ filter: event.target.value }) })),
      select("figures of", attributeOptions(doc, true), a, (value) => redraw({ attribute: Number(value) })),
      el("button", { type: "button", click: () => redraw({ sort: "ranking", down: true }) }, "order by validation F1, as selected")),
    el("p", { class: "quiet", role: "status" }, `${runs.length} of ${doc.ranking.length} finished runs. Dot: F1 at tuned thresholds on `
      + `test images; bar: its 95 % interval; dashed line: all positive ${number(floor)}${covered}. ${difference}`),
    grid("Leaderboard", "board", heads, shown.map(row)),
    more(shown, runs, () => redraw({ all: true })),
  ];
}

function withoutFigures(doc) {
  const rows = doc.runs.filter((run) => run.state !== "done").map((run) => [run.name, run.state, run.reason ?? ""]);
  return rows.length ? table(["run", "state", "reason"], rows, "Runs without figures") : null;
}

function more(shown, runs, click) {
  return shown.length < runs.length ? el("button", { type: "button", class: "more", click }, `show all ${runs.length} runs`) : null;
}

function heat(doc, choice, redraw) {
  const runs = finished(doc), shown = choice.allHeat ? runs : firstOf(doc, runs), name = choice.heat;
  const columns = [...doc.attributes.keys(), ...(name === "threshold" ? [] : [-1])];
  const values = columns.map((a) => runs.map((run) => figure(run, name, a)).filter(isNumber));
  const low = Math.min(...values.flat()), high = Math.max(...values.flat()), signed = name === "gain" || name === "delta";
  const entry = (run, a, place) => {
    const value = figure(run, name, a), text = number(value, signed ? 3 : 2, signed);
    const best = runs.length > 1 && isNumber(value) && value === Math.max(...values[place]);
    return heatCell(value, low, high, best ? el("b", {}, text, " ●") : text);
  };
  const row = (run) => el("tr", {}, el("th", { scope: "row" }, run.name, " ", chips(doc, run)),
    columns.map((a, place) => entry(run, a, place)));
  return [
    el("h3", {}, "Attributes by run"),
    el("div", { class: "tools" }, select("show", HEAT, name, (value) => redraw({ heat: value }))),
    el("p", { class: "quiet" }, "A darker cell is a higher number; ● marks the highest of a column. Differences that small samples make by "
      + "chance are marked too: see the intervals."),
    grid("Attributes by run", "heat board", ["run", ...columns.map((a) => (a < 0 ? MACRO : doc.attributes[a].name))], shown.map(row)),
    more(shown, runs, () => redraw({ allHeat: true })),
  ];
}

// Of points (x, y) those than which none is cheaper and higher.
function paretoFront(points, moreIsCheaper) {
  const cheapest = [...points].sort((one, other) => (moreIsCheaper ? other.x - one.x : one.x - other.x) || other.y - one.y);
  return cheapest.reduce((front, point) => (!front.length || point.y > last(front).y ? [...front, point] : front), []);
}

function cost(doc, choice, redraw) {
  const runs = finished(doc), differs = ([name]) => new Set(runs.map((run) => figure(run, name, -1)).filter(isNumber)).size > 1;
  const costs = COSTS.filter(differs);
  if (!costs.length) return [];
  const [name, label] = costs.find(([key]) => key === choice.cost) ?? costs[0];
  const points = runs.map((run) => {
    const [y, low, high] = figures(run, TUNED, -1);
    return { run, x: figure(run, name, -1), y, low, high };
  }).filter((point) => isNumber(point.x) && isNumber(point.y));
  const front = paretoFront(points, name === "images_per_second"), xs = points.map((point) => point.x);
  const least = Math.min(...xs), most = Math.max(...xs), margin = 0.08 * (most - least), log = least > 0 && most > 20 * least;
  const frame = plot({
    x: log ? [least / 1.3, most * 1.3] : [Math.max(0, least - margin), most + margin], xLabel: label, log,
    y: extent([last(doc.all_positive), ...points.flatMap((point) => [point.y, point.low, point.high])]), yLabel: "macro F1",
    width: 720, height: 340,
  });
  const dot = (point) => svg("g", {},
    title(`${point.run.name}: ${label} ${whole(point.x)}, macro F1 ${number(point.y, 3)} (${interval(point.low, point.high, false, 3)})`),
    isNumber(point.low) ? upright(frame, point.x, point.low, point.high, "bar faint") : null,
    svg("circle", { class: front.includes(point) ? "dot" : "hollow", cx: frame.x(point.x), cy: frame.y(point.y), r: 5 }));
  const name_ = (point, i) => svg("text", { class: "halo", x: frame.x(point.x), y: frame.y(point.y) - 10, "text-anchor": "middle" }, String(i + 1));
  frame.add(path(frame, front.map((point) => point.x), front.map((point) => point.y), "front"), points.map(dot), front.map(name_));
  const names = front.map((point, i) => `${i + 1}: ${point.run.name}`).join("; ");
  const rows = () => points.map((point) => [point.run.name, point.x, point.y, point.low, point.high, front.includes(point) ? "yes" : "no"]);
  return [
    el("h3", {}, "What does F1 cost?"),
    costs.length > 1 ? el("div", { class: "tools" }, select("cost", costs, name, (value) => redraw({ cost: value }))) : null,
    chart("Macro F1 against cost", `Filled dots: no cheaper run has a higher F1 (Pareto front). Bars: 95 % intervals; where they overlap, `
      + `the order may be chance. ${names}.`, frame.node, ["run", label, "macro F1", "low", "high", "on the front"], rows),
  ];
}
