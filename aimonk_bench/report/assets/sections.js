// The sections of the page. Each takes the document and what the reader has chosen, and returns nodes.

const MACRO = "macro average";
const BOARD = [
  ["f1_tuned", "F1"], ["gain", "gain"], ["delta", "vs baseline"], ["f1_validation", "val F1"],
  ["average_precision", "AP"], ["roc_auc", "ROC AUC"], ["seconds", "train s"],
];
const HEAT = [
  ["f1_tuned", "F1 at tuned thresholds"], ["gain", "gain over all positive"], ["delta", "difference from the baseline run"], ["f1_default", "F1 at 0.5"],
  ["precision", "precision"], ["recall", "recall"], ["average_precision", "average precision"], ["roc_auc", "ROC AUC"], ["threshold", "threshold"],
];
const COSTS = [["parameters", "parameters, millions"], ["macs", "billions of multiply-accumulates per image"], ["images_per_second", "images per second (encoding)"], ["seconds", "seconds of training"]];

const last = (values) => values?.[values.length - 1];
const byId = (doc, id) => doc.runs.find((run) => run.id === id);
const finished = (doc) => doc.ranking.map((id) => byId(doc, id));

// A figure of a run: of attribute `a`, or of the macro average where `a` is -1. One number stands for all rows.
function figure(run, name, a) {
  if (name === "gain") {
    const f1 = figure(run, "f1_tuned", a), floor = figure(run, "floor_f1", a);
    return isNumber(f1) && isNumber(floor) ? f1 - floor : null;
  }
  const values = run.figures[name];
  return !values ? null : values.length === 1 ? values[0] : values[a < 0 ? values.length - 1 : a] ?? null;
}

function chips(doc, run) {
  const marks = [
    [run.id === doc.selected && doc.kind === "suite", "selected", "best on validation rows"], [run.id === doc.simplest && doc.kind === "suite", "simplest", "the simplest of the runs that are not measurably worse"],
    [run.id === doc.baseline, "baseline", "the run that the others are compared with"], [doc.ties.includes(run.id), "tie", "not distinguishable from the selected run"],
  ];
  return marks.filter(([holds]) => holds).map(([, name, text]) => el("span", { class: `chip ${name}`, title: text }, name));
}
const bare = (doc, run) => run.name.replace(/ \(base\)| \*$/g, "");

function select(label, options, value, change) {
  return el("label", {}, label, el("select", { change: (event) => change(event.target.value) },
    options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text))));
}
const attributeOptions = (doc, withMacro) => [...(withMacro ? [[-1, MACRO]] : []), ...doc.attributes.map((attribute, a) => [a, attribute.name])];

function recommended(doc) {
  const card = (heading, run, note) => {
    const [low, high] = ["f1_tuned_low", "f1_tuned_high"].map((name) => figure(run, name, -1)), speed = figure(run, "images_per_second", -1);
    return el("div", { class: "card" }, el("h3", {}, heading), el("p", { class: "name" }, bare(doc, run)),
      el("p", { class: "large", title: exact(figure(run, "f1_tuned", -1)) }, number(figure(run, "f1_tuned", -1), placesOf(low, high))),
      el("p", { class: "quiet" }, `macro F1 on test images, 95 % interval ${interval(low, high)}; all positive ${number(last(doc.all_positive))}`),
      el("p", { class: "quiet" }, `${run.columns.backbone}, ${number(figure(run, "parameters", -1), 1)} million parameters${isNumber(speed) ? `, ${whole(speed)} images per second` : ""}, trained in ${whole(figure(run, "seconds", -1))} s`),
      note ? el("p", { class: "quiet" }, note) : null);
  };
  const cards = [];
  if (doc.simplest) cards.push(card(doc.kind === "run" ? "The run" : "The simplest run that is not measurably worse", byId(doc, doc.simplest), doc.simplest === doc.selected && doc.kind === "suite" ? "It is the selected run too." : null));
  if (doc.selected && doc.selected !== doc.simplest) cards.push(card("Selected on validation rows", byId(doc, doc.selected), "Its figure is a little too high, because it was selected."));
  if (doc.nested) cards.push(el("div", { class: "card" }, el("h3", {}, "The figure to report: nested model selection"), el("p", { class: "name" }, "selected per fold"),
    el("p", { class: "large", title: exact(last(doc.nested.f1_tuned)) }, number(last(doc.nested.f1_tuned))),
    el("p", { class: "quiet" }, `macro F1, 95 % interval ${interval(last(doc.nested.f1_tuned_low), last(doc.nested.f1_tuned_high))}: each fold is tested with the run that its own validation rows select`)));
  return [el("p", { class: "verdict" }, doc.verdict), doc.plainly ? el("p", {}, doc.plainly) : null, el("div", { class: "cards" }, cards),
    doc.warnings.length ? el("ul", { class: "warnings", "aria-label": "Warnings" }, doc.warnings.map((line) => el("li", {}, line))) : null];
}

function versusText(run, a) {
  const delta = figure(run, "delta", a);
  if (!isNumber(delta)) return "";
  if (a >= 0) return isNumber(figure(run, "delta_low", a)) ? `${number(delta, 3, true)} (${interval(figure(run, "delta_low", a), figure(run, "delta_high", a), true, 3)})` : "";
  const versus = run.versus_baseline;
  return versus && isNumber(versus.simultaneous_low) ? `${number(versus.value, 3, true)} (${interval(versus.simultaneous_low, versus.simultaneous_high, true, 3)})` : "";
}

function board(doc, choice, redraw) {
  const a = choice.attribute, words = choice.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const runs = finished(doc).filter((run) => words.every((word) => `${run.name} ${run.id}`.toLowerCase().includes(word)));
  const sign = choice.down ? -1 : 1;
  if (choice.sort !== "ranking") runs.sort((one, other) => {
    if (choice.sort === "name") return sign * one.name.localeCompare(other.name);
    const [x, y] = [one, other].map((run) => figure(run, choice.sort, a));
    return isNumber(x) && isNumber(y) ? sign * (x - y) : isNumber(y) - isNumber(x);
  });
  const shown = choice.all ? runs : runs.slice(0, 30), floor = a < 0 ? last(doc.all_positive) : doc.all_positive[a];
  const domain = extent([floor, ...runs.flatMap((run) => ["f1_tuned", "f1_tuned_low", "f1_tuned_high"].map((name) => figure(run, name, a)))]);
  const sort = (name) => () => redraw({ down: choice.sort === name ? !choice.down : name !== "name", sort: name });
  const head = (name, text) => el("th", { scope: "col", "aria-sort": choice.sort === name ? (choice.down ? "descending" : "ascending") : "none" }, el("button", { type: "button", click: sort(name) }, text));
  const rows = shown.map((run) => {
    const [value, low, high] = ["f1_tuned", "f1_tuned_low", "f1_tuned_high"].map((name) => figure(run, name, a)), places = placesOf(low, high);
    const text = `${run.name}: F1 ${number(value, 3)}, 95 % interval ${interval(low, high, false, 3)}`;
    return el("tr", { class: run.id === doc.simplest ? "strong" : null },
      el("th", { scope: "row" }, bare(doc, run), " ", chips(doc, run)), el("td", { class: "bars" }, bars(domain, value, low, high, floor, text)),
      cell(value, `${number(value, places)}`, { title: `${exact(value)}; 95 % interval ${interval(low, high, false, 4)}` }), cell(figure(run, "gain", a), number(figure(run, "gain", a), places, true)),
      cell(figure(run, "delta", a), el("span", {}, versusText(run, a), a < 0 && run.versus_baseline?.mark ? el("span", { class: "chip" }, run.versus_baseline.mark) : null)),
      ["f1_validation", "average_precision", "roc_auc"].map((name) => cell(figure(run, name, a))), cell(figure(run, "seconds", a), whole(figure(run, "seconds", a))));
  });
  const others = doc.runs.filter((run) => run.state !== "done");
  return [
    el("div", { class: "tools" }, el("label", {}, "filter by name", el("input", { type: "search", value: choice.filter, "data-keep": "filter", input: (event) => redraw({ filter: event.target.value }) })),
      select("figures of", attributeOptions(doc, true), a, (value) => redraw({ attribute: Number(value) })),
      el("button", { type: "button", click: () => redraw({ sort: "ranking", down: true }) }, "order by validation F1, as selected")),
    el("p", { class: "quiet", role: "status" }, `${runs.length} of ${doc.ranking.length} finished runs. Dot: F1 at tuned thresholds on test images; bar: its 95 % interval; dashed line: all positive ${number(floor)}. `
      + (a < 0 ? "vs baseline: paired difference of macro F1 with its simultaneous interval; equivalent, better, worse: adjusted by Holm." : "vs baseline: paired difference with its interval, not adjusted.")),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Leaderboard" }, el("table", { class: "board" },
      el("thead", {}, el("tr", {}, head("name", "run"), el("th", { class: "bars", scope: "col" }, axisOf(domain)), BOARD.map(([name, text]) => head(name, text)))), el("tbody", {}, rows))),
    shown.length < runs.length ? el("button", { type: "button", class: "more", click: () => redraw({ all: true }) }, `show all ${runs.length} runs`) : null,
    others.length ? table(["run", "state", "reason"], others.map((run) => [run.name, el("td", {}, run.state), el("td", {}, run.reason ?? "")]), "Runs without figures") : null,
  ];
}

function heat(doc, choice, redraw) {
  const runs = finished(doc), shown = choice.allHeat ? runs : runs.slice(0, 30), name = choice.heat;
  const columns = [...doc.attributes.map((_, a) => a), ...(name === "threshold" ? [] : [-1])];
  const values = columns.map((a) => runs.map((run) => figure(run, name, a)).filter(isNumber)), signed = name === "gain" || name === "delta";
  const everything = values.flat(), low = Math.min(...everything), high = Math.max(...everything), places = signed ? 3 : 2;
  const row = (run) => el("tr", {}, el("th", { scope: "row" }, bare(doc, run), " ", chips(doc, run)), columns.map((a, place) => {
    const value = figure(run, name, a), best = isNumber(value) && value === Math.max(...values[place]) && runs.length > 1;
    return heatCell(value, low, high, best ? el("b", {}, number(value, places, signed), " ●") : number(value, places, signed));
  }));
  return [el("h3", {}, "Attributes by run"), el("div", { class: "tools" }, select("show", HEAT, name, (value) => redraw({ heat: value }))),
    el("p", { class: "quiet" }, "A darker cell is a higher number; ● marks the highest of a column. Differences that small samples make by chance are marked too: see the intervals."),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Attributes by run" }, el("table", { class: "heat board" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "run"), columns.map((a) => el("th", { scope: "col" }, a < 0 ? MACRO : doc.attributes[a].name)))), el("tbody", {}, shown.map(row)))),
    shown.length < runs.length ? el("button", { type: "button", class: "more", click: () => redraw({ allHeat: true }) }, `show all ${runs.length} runs`) : null];
}

function cost(doc, choice, redraw) {
  const differing = COSTS.filter(([name]) => new Set(finished(doc).map((run) => figure(run, name, -1)).filter(isNumber)).size > 1);
  if (finished(doc).length < 2 || !differing.length) return [];
  const [name, label] = differing.find(([key]) => key === choice.cost) ?? differing[0], more = name === "images_per_second";
  const points = finished(doc).map((run) => ({ run, x: figure(run, name, -1), y: figure(run, "f1_tuned", -1), low: figure(run, "f1_tuned_low", -1), high: figure(run, "f1_tuned_high", -1) })).filter((point) => isNumber(point.x) && isNumber(point.y));
  const cheapest = [...points].sort((one, other) => (more ? other.x - one.x : one.x - other.x) || other.y - one.y), front = [];
  for (const point of cheapest) if (!front.length || point.y > front[front.length - 1].y) front.push(point);
  const xs = points.map((point) => point.x), log = Math.max(...xs) > 20 * Math.min(...xs) && Math.min(...xs) > 0, span = Math.max(...xs) - Math.min(...xs);
  const frame = plot({ x: log ? [Math.min(...xs) / 1.3, Math.max(...xs) * 1.3] : [Math.max(0, Math.min(...xs) - 0.08 * span), Math.max(...xs) + 0.08 * span], y: extent([last(doc.all_positive), ...points.flatMap((point) => [point.low, point.high, point.y])]),
    xLabel: label, yLabel: "macro F1", width: 720, height: 340, log });
  frame.add(path(frame, front.map((point) => point.x), front.map((point) => point.y), "front"), points.map((point) => svg("g", {}, title(`${point.run.name}: ${label} ${whole(point.x)}, macro F1 ${number(point.y, 3)} (${interval(point.low, point.high, false, 3)})`),
    isNumber(point.low) ? svg("line", { class: "bar faint", x1: frame.x(point.x), x2: frame.x(point.x), y1: frame.y(point.low), y2: frame.y(point.high) }) : null,
    svg("circle", { class: front.includes(point) ? "dot" : "hollow", cx: frame.x(point.x), cy: frame.y(point.y), r: front.includes(point) ? 6 : 4.5 }))),
    front.map((point, i) => svg("text", { class: "halo", x: frame.x(point.x), y: frame.y(point.y) - 10, "text-anchor": "middle" }, String(i + 1))));
  return [el("h3", {}, "What does F1 cost?"), differing.length > 1 ? el("div", { class: "tools" }, select("cost", differing, name, (value) => redraw({ cost: value }))) : null,
    chart("Macro F1 against cost", `Filled dots: no cheaper run has a higher F1 (Pareto front). Bars: 95 % intervals; where they overlap, the order may be chance. ${front.map((point, i) => `${i + 1}: ${bare(doc, point.run)}`).join("; ")}.`, frame.node,
      ["run", label, "macro F1", "low", "high", "on the front"], () => points.map((point) => [point.run.name, point.x, point.y, point.low, point.high, front.includes(point) ? "yes" : "no"]))];
}

const runOptions = (doc, withCurves) => finished(doc).filter((run) => !withCurves || doc.curves[run.id]).map((run) => [run.id, `${bare(doc, run)}${run.id === doc.simplest && doc.kind === "suite" ? " (simplest)" : run.id === doc.selected && doc.kind === "suite" ? " (selected)" : ""}`]);

function attributes(doc, choice, redraw) {
  const run = byId(doc, choice.run), domain = extent([...doc.all_positive, ...["f1_tuned_low", "f1_tuned_high", "f1_default", "f1_tuned"].flatMap((name) => run.figures[name])]);
  const rows = doc.attributes.map((attribute, a) => {
    const [value, low, high, half, floor] = ["f1_tuned", "f1_tuned_low", "f1_tuned_high", "f1_default", "floor_f1"].map((name) => figure(run, name, a)), places = placesOf(low, high);
    const n = figure(run, "n_observed", a), positive = figure(run, "n_positive", a), shade = attribute.word === "not better than guessing" ? "guessing" : attribute.word.split(" ")[0];
    const need = attribute.word !== "cannot be told" ? "" : attribute.more_positives === null ? "no number would do" : attribute.more_positives ? `${whole(attribute.more_positives)} more` : "enough";
    return el("tr", {}, el("th", { scope: "row" }, attribute.name, run.few[a] ? el("span", { class: "chip", title: "few test rows: TP, or FP + FN, below 5" }, "few rows") : null), el("td", {}, el("span", { class: `word ${shade}`, title: attribute.meaning }, attribute.word)),
      el("td", { class: "bars" }, bars(domain, value, low, high, floor, `${attribute.name}: F1 ${number(value, 3)} (${interval(low, high, false, 3)}), at 0.5 ${number(half, 3)}, all positive ${number(floor, 3)}`, { hollow: half })),
      cell(value, `${number(value, places)} (${interval(low, high)})`), cell(half), cell(floor), cell(attribute.gain, `${number(attribute.gain, 3, true)} (≥ ${number(attribute.gain_low, 3, true)})`),
      cell(figure(run, "roc_auc", a)), cell(figure(run, "average_precision", a)), cell(run.na_low[a], interval(run.na_low[a], run.na_high[a])), cell(positive / n, `${whole(positive)} of ${whole(n)}`), el("td", {}, need));
  });
  const meanings = [...new Map(doc.attributes.map((attribute) => [attribute.word, attribute.meaning]))];
  return [el("div", { class: "tools" }, finished(doc).length > 1 ? select("figures of the run", runOptions(doc), run.id, (value) => redraw({ run: value })) : null),
    el("p", { class: "quiet" }, "Filled dot: F1 at tuned thresholds with its 95 % interval; ring: F1 at 0.5; dashed line of each row: all positive. The word and the gain are about the selection, as in the verdict."),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Attributes" }, el("table", { class: "board narrow" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "attribute"), el("th", { scope: "col" }, "in a word"), el("th", { class: "bars", scope: "col" }, axisOf(domain)),
      ["F1 (95 % interval)", "F1 at 0.5", "all positive", "gain (≥ lower bound)", "ROC AUC", "AP", "F1 for any NA", "positive labels", "positives to tell"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows))),
    el("dl", {}, meanings.map(([word, meaning]) => [el("dt", {}, word), el("dd", {}, meaning)]), el("dt", {}, "F1 for any NA"), el("dd", {}, "lowest and highest F1 for any labels in place of the missing ones"))];
}

function behaviour(doc, choice, redraw) {
  const options = runOptions(doc, true), id = doc.curves[choice.run] ? choice.run : options[0]?.[0];
  if (!id) return [el("p", {}, "No run finished.")];
  const a = Math.max(0, choice.attribute), run = byId(doc, id), curves = doc.curves[id], of = curves.attributes[a], { recall, threshold, bins } = doc.grid, prevalence = figure(run, "n_positive", a) / figure(run, "n_observed", a);
  const precision = plot({ x: [0, 1], y: [0, 1], xLabel: "recall", yLabel: "precision" });
  precision.add(isNumber(prevalence) ? svg("line", { class: "baseline", x1: precision.x(0), x2: precision.x(1), y1: precision.y(prevalence), y2: precision.y(prevalence) }, title(`prevalence ${number(prevalence, 3)}`)) : null, band(precision, recall, of.precision_low, of.precision_high), path(precision, recall, of.precision));
  const f1 = plot({ x: [0, 1], y: [0, 1], xLabel: "threshold", yLabel: "F1" }), chosen = figure(run, "threshold", a), floor = figure(run, "floor_f1", a);
  const upright = (value, name) => svg("line", { class: name, x1: f1.x(value), x2: f1.x(value), y1: f1.y(0), y2: f1.y(name === "chosen" ? 0.08 : 1) }, title(`threshold ${number(value, 3)}`));
  f1.add(isNumber(floor) ? svg("line", { class: "baseline", x1: f1.x(0), x2: f1.x(1), y1: f1.y(floor), y2: f1.y(floor) }, title(`all positive ${number(floor, 3)}`)) : null, of.chosen.map((value) => upright(value, "chosen")), isNumber(chosen) ? upright(chosen, "chosen mean") : null, band(f1, threshold, of.f1_low, of.f1_high), path(f1, threshold, of.f1));
  const calibrated = plot({ x: [0, 1], y: [0, 1], xLabel: "predicted probability", yLabel: "share of positives" }), bin = of.reliability;
  calibrated.add(svg("path", { class: "line second", d: `M${calibrated.x(0)},${calibrated.y(0)}L${calibrated.x(1)},${calibrated.y(1)}` }), bin.probability.map((value, i) => svg("g", {}, title(`${number(bin.n[i], 1)} rows: predicted ${number(value, 3)}, positive ${number(bin.positive[i], 3)} (${interval(bin.low[i], bin.high[i], false, 3)})`),
    isNumber(bin.low[i]) ? svg("line", { class: "bar", x1: calibrated.x(value), x2: calibrated.x(value), y1: calibrated.y(bin.low[i]), y2: calibrated.y(bin.high[i]) }) : null, svg("circle", { class: "dot", cx: calibrated.x(value), cy: calibrated.y(bin.positive[i]), r: 4 }))));
  const classes = [["positive", "column"], ["negative", "column second"], ["missing", "column third"]], most = Math.max(1, ...classes.flatMap(([name]) => of.histogram[name]));
  const histogram = plot({ x: [0, 1], y: [0, Math.ceil(most * 1.05)], xLabel: "predicted probability", yLabel: "images" }), wide = (histogram.x(1) - histogram.x(0)) / bins / 3;
  histogram.add(classes.map(([name, shape], place) => of.histogram[name].map((value, i) => (value ? svg("rect", { class: shape, x: histogram.x(i / bins) + place * wide, width: wide * 0.9, y: histogram.y(value), height: histogram.y(0) - histogram.y(value) }, title(`${name}: ${number(value, 1)} images from ${i / bins} to ${(i + 1) / bins}`)) : null))));
  const loss = curves.loss, all = [...loss.training, ...loss.validation].filter(isNumber), training = plot({ x: [0, last(loss.iteration)], y: extent([0, ...all], 0.01), xLabel: "iteration", yLabel: "loss" });
  training.add(path(training, loss.iteration, loss.training), path(training, loss.validation_iteration, loss.validation, "line second"));
  const { tp, fp, fn, tn } = of.confusion, counted = (value, text) => cell(value, el("span", {}, number(value, 1), el("small", {}, text)));
  return [el("div", { class: "tools" }, options.length > 1 ? select("run", options, id, (value) => redraw({ run: value })) : null, select("attribute", attributeOptions(doc), a, (value) => redraw({ attribute: Number(value) }))),
    el("p", { class: "quiet" }, `${bare(doc, run)}, ${doc.attributes[a].name}, on test images. Curves: means over seeds${doc.data.folds.length > 1 ? " and folds" : ""}; bands: the lowest and the highest seed.${options.length < doc.ranking.length ? ` The page has the curves of ${options.length} of ${doc.ranking.length} runs: the best on validation, the selected, the simplest and the baseline.` : ""}`),
    el("div", { class: "small" },
      chart("Precision and recall", `Average precision ${number(figure(run, "average_precision", a))}; dashed: prevalence.`, precision.node, ["recall", "precision", "lowest", "highest"], () => recall.map((value, i) => [value, of.precision[i], of.precision_low[i], of.precision_high[i]])),
      chart("F1 by threshold", `Thick line: the mean tuned threshold ${number(chosen)}; short lines: each seed${doc.data.folds.length > 1 ? " and fold" : ""}; dashed: all positive.`, f1.node, ["threshold", "F1", "lowest", "highest"], () => threshold.map((value, i) => [value, of.f1[i], of.f1_low[i], of.f1_high[i]])),
      chart("Reliability", `Dots on the dashed line are calibrated. Calibration error ${number(run.calibration.ece?.[a], 3)}; of a calibrated head with as many rows ${number(run.calibration.ece_reference?.[a], 3)}.`, calibrated.node, ["predicted", "rows", "positive", "low", "high"], () => bin.probability.map((value, i) => [value, bin.n[i], bin.positive[i], bin.low[i], bin.high[i]])),
      el("div", {}, chart("Scores by class", "Images per seed in each twentieth.", histogram.node, ["from", "positive", "negative", "missing label"], () => of.histogram.positive.map((value, i) => [i / bins, value, of.histogram.negative[i], of.histogram.missing[i]])), legend([boxMark("column"), "positive"], [boxMark("column second"), "negative"], [boxMark("column third"), "missing label"])),
      el("div", {}, chart("Loss", "Means over the heads of the run.", training.node, ["iteration", "training loss"], () => loss.iteration.map((value, i) => [value, loss.training[i]])), legend([lineMark("line"), "training"], loss.validation.length ? [lineMark("line second"), "validation"] : [null, ""])),
      el("figure", {}, el("figcaption", {}, el("b", {}, "Confusion counts")), el("table", { class: "matrix" }, el("thead", {}, el("tr", {}, ["", "predicted positive", "predicted negative"].map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, el("tr", {}, el("th", { scope: "row" }, "positive"), counted(tp, "true positives"), counted(fn, "false negatives")), el("tr", {}, el("th", { scope: "row" }, "negative"), counted(fp, "false positives"), counted(tn, "true negatives")))), el("p", { class: "quiet" }, "Test images at the tuned thresholds, means over the seeds.")))];
}

function labelCounts(data, names, missing) {
  const width = 720, x = scale([0, data.n_used], [190, width - 100]);
  const bar = (name, a) => {
    const y = 26 * a + 4, positive = data.n_positive[a], observed = data.n_observed[a];
    const parts = [[0, positive, "column"], [positive, observed, "column second"], [observed, data.n_used, "column third"]];
    return svg("g", {}, title(`${name}: ${positive} positive, ${observed - positive} negative, ${missing[a]} missing`),
      svg("text", { x: 182, y: y + 14, "text-anchor": "end" }, name.length > 26 ? `${name.slice(0, 25)}…` : name),
      parts.map(([from, to, shape]) => svg("rect", { class: shape, x: x(from), y, width: Math.max(0, x(to) - x(from)), height: 18 })),
      svg("text", { class: "tick", x: width - 92, y: y + 14 }, `${((100 * missing[a]) / data.n_used).toFixed(1)} % NA`));
  };
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${26 * names.length + 6}`, class: "chart", role: "img", "aria-label": "Labels by attribute" }, names.map(bar));
  const rows = () => names.map((name, a) => [name, data.n_positive[a], data.n_observed[a] - data.n_positive[a], missing[a]]);
  return el("div", {}, chart("Labels by attribute", "Of the images that were used; NA: the label is missing.", drawing, ["attribute", "positive", "negative", "missing"], rows),
    legend([boxMark("column"), "positive"], [boxMark("column second"), "negative"], [boxMark("column third"), "missing"]));
}

function dataSection(doc) {
  const data = doc.data, names = doc.attributes.map((attribute) => attribute.name);
  if (!data) return [el("p", {}, "No run finished.")];
  const missing = names.map((_, a) => (data.n_observed ? data.n_used - data.n_observed[a] : null));
  const matrix = (heading, note, tints, values, low, high) => {
    const own = (a) => el("td", { class: "own" }, whole(values[a][a]));
    const pair = (a, b) => heatCell(tints[a][b], low, high, whole(values[a][b]), { title: `correlation ${exact(tints[a][b])}` });
    const rows = names.map((name, a) => el("tr", {}, el("th", { scope: "row" }, name), names.map((_, b) => (a === b ? own(a) : pair(a, b)))));
    const head = el("tr", {}, ["", ...names].map((name) => el("th", { scope: "col" }, name)));
    const grid = el("table", { class: "heat board" }, el("thead", {}, head), el("tbody", {}, rows));
    return el("figure", {}, el("figcaption", {}, el("b", {}, heading)),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": heading }, grid), el("p", { class: "quiet" }, note));
  };
  const off = (values) => values.flatMap((row, a) => row.filter((value, b) => a !== b && isNumber(value))), few = names.length <= 40;
  const folds = data.folds.flatMap((fold, number_) => ["train", "val", "test"].map((part) => [data.folds.length > 1 ? `fold ${number_}, ${part}` : part, fold[part].images, ...names.map((_, a) => el("td", {}, `${fold[part].positive[a]} of ${fold[part].observed[a]}`))]));
  return [el("p", {}, `${whole(data.n_used)} of ${whole(data.n_listed)} listed images were used${isNumber(data.n_groups) && data.n_groups < data.n_used ? `, in ${whole(data.n_groups)} groups that a split keeps together` : ""}. ${data.skipped.length ? `${data.skipped.length} were skipped.` : "None was skipped."}`),
    data.n_observed ? labelCounts(data, names, missing) : null,
    names.length > 1 && few ? [matrix("Missing together", `Images where both labels are missing, of ${whole(data.rows)}${data.all_rows ? "" : " validation and test images"}; tint: correlation of what is missing. On the diagonal: missing at all.`, data.missing_phi, data.missing_both, -1, 1),
      matrix("Positive together", "Images where both labels are positive; tint: correlation of the labels (orange: they exclude each other). On the diagonal: positive.", data.phi, data.both_positive, Math.min(0, ...off(data.phi)), Math.max(0.1, ...off(data.phi)))] : null,
    el("h3", {}, "Labels per fold"), table(["part", "images", ...names], folds, "Positive labels, of those observed"),
    data.skipped.length ? [el("h3", {}, "Skipped images"), table(["image", "line", "reason"], data.skipped.slice(0, 200).map((item) => [item.image_id, item.line, el("td", {}, item.reason)]), `${data.skipped.length} skipped${data.skipped.length > 200 ? ", the first 200" : ""}`)] : null,
    data.notes.length ? [el("h3", {}, "Notes on the data"), el("ul", {}, data.notes.map((note) => el("li", {}, note)))] : null];
}
