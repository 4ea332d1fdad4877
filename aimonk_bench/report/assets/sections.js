// The sections on one run and on the data; what a section is, see runs.js.

const FEW_PAIRS = 40; // attributes up to which pairs of attributes are shown

function attributes(doc, choice, redraw) {
  const run = byId(doc, choice.run);
  const domain = extent([...doc.all_positive, ...[...TUNED, "f1_default"].flatMap((name) => run.figures[name])]);
  const needed = (attribute) => {
    if (attribute.word !== "cannot be told") return "";
    if (attribute.more_positives === null) return "no number would do";
    return attribute.more_positives ? `${whole(attribute.more_positives)} more` : "enough";
  };
  const row = (attribute, a) => {
    const [value, low, high] = figures(run, TUNED, a), [half, floor] = figures(run, ["f1_default", "floor_f1"], a);
    const [observed, positive] = figures(run, ["n_observed", "n_positive"], a), places = placesOf(low, high);
    const shade = attribute.word === "not better than guessing" ? "guessing" : attribute.word.split(" ")[0];
    const text = `${attribute.name}: F1 ${number(value, 3)} (${interval(low, high, false, 3)}), at 0.5 ${number(half, 3)}, all positive `
      + number(floor, 3);
    const tests = `${attribute.meaning}. Adjusted p: signal ${number(attribute.signal_p, 3)}, gain ${number(attribute.gain_p, 3)}; detectable AUC `
      + number(attribute.detectable_auc);
    const few = el("span", { class: "chip", title: "few test rows: TP, or FP + FN, below 5" }, "few rows");
    return el("tr", {}, el("th", { scope: "row" }, attribute.name, run.few[a] ? [" ", few] : null),
      el("td", {}, el("span", { class: `word ${shade}`, title: tests }, attribute.word)),
      el("td", { class: "bars" }, bars(domain, value, low, high, floor, text, half)),
      cell(value, `${number(value, places)} (${interval(low, high)})`), cell(half), cell(floor),
      cell(attribute.gain, `${number(attribute.gain, 3, true)} (≥ ${number(attribute.gain_low, 3, true)})`),
      figures(run, ["roc_auc", "average_precision"], a).map((number_) => cell(number_)),
      cell(run.na_low[a], interval(run.na_low[a], run.na_high[a], false, 2)),
      cell(positive / observed, `${whole(positive)} of ${whole(observed)}`), el("td", {}, needed(attribute)));
  };
  const heads = ["attribute", "in a word", el("th", { class: "bars", scope: "col" }, axisOf(domain)), "F1 (95 % interval)", "F1 at 0.5",
    "all positive", "gain (≥ lower bound)", "ROC AUC", "AP", "F1 for any NA", "positive labels", "positives to tell"];
  const meanings = [...new Map(doc.attributes.map((attribute) => [attribute.word, attribute.meaning])),
    ["F1 for any NA", "lowest and highest F1 for any labels in place of the missing ones"]];
  if (doc.attributes.some((attribute) => attribute.word === "cannot be told")) {
    meanings.push(["positives to tell", "how many more positive labels would show a useful ranking with 80 % probability, all else equal"]);
  }
  const options = runOptions(doc);
  return [
    options.length > 1 ? el("div", { class: "tools" }, select("figures of the run", options, run.id, (value) => redraw({ run: value }))) : null,
    el("p", { class: "quiet" }, "Filled dot: F1 at tuned thresholds with its 95 % interval; ring: F1 at 0.5; dashed line of each row: all "
      + "positive. The word and the gain are about the selection, as in the verdict."),
    grid("Attributes", "board narrow", heads, doc.attributes.map(row)),
    el("dl", {}, meanings.map(([word, meaning]) => [el("dt", {}, word), el("dd", {}, meaning)])),
  ];
}

function precisionRecall(of, recall, run, a) {
  const frame = plot({ x: [0, 1], y: [0, 1], xLabel: "recall", yLabel: "precision" });
  const prevalence = figure(run, "n_positive", a) / figure(run, "n_observed", a);
  frame.add(isNumber(prevalence) ? level(frame, prevalence, "baseline", `prevalence ${number(prevalence, 3)}`) : null,
    band(frame, recall, of.precision_low, of.precision_high), path(frame, recall, of.precision));
  const rows = () => recall.map((value, i) => [value, of.precision[i], of.precision_low[i], of.precision_high[i]]);
  return chart("Precision and recall", `Average precision ${number(figure(run, "average_precision", a))}; dashed: prevalence.`,
    frame.node, ["recall", "precision", "lowest", "highest"], rows);
}

function f1ByThreshold(of, threshold, run, a, folds) {
  const frame = plot({ x: [0, 1], y: [0, 1], xLabel: "threshold", yLabel: "F1" });
  const [chosen, floor] = figures(run, ["threshold", "floor_f1"], a), named = (value) => title(`threshold ${number(value, 3)}`);
  frame.add(isNumber(floor) ? level(frame, floor, "baseline", `all positive ${number(floor, 3)}`) : null,
    of.chosen.map((value) => upright(frame, value, 0, 0.08, "chosen", named(value))),
    isNumber(chosen) ? upright(frame, chosen, 0, 1, "chosen mean", named(chosen)) : null,
    band(frame, threshold, of.f1_low, of.f1_high), path(frame, threshold, of.f1));
  const rows = () => threshold.map((value, i) => [value, of.f1[i], of.f1_low[i], of.f1_high[i]]);
  return chart("F1 by threshold", `Thick line: the mean tuned threshold ${number(chosen)}; short lines: each seed${folds}; dashed: all positive.`,
    frame.node, ["threshold", "F1", "lowest", "highest"], rows);
}

function reliability(of, run, a) {
  const frame = plot({ x: [0, 1], y: [0, 1], xLabel: "predicted probability", yLabel: "share of positives" }), bin = of.reliability;
  const dot = (value, i) => svg("g", {},
    title(`${number(bin.n[i], 1)} rows: predicted ${number(value, 3)}, positive ${number(bin.positive[i], 3)} `
      + `(${interval(bin.low[i], bin.high[i], false, 3)})`),
    isNumber(bin.low[i]) ? upright(frame, value, bin.low[i], bin.high[i], "bar") : null,
    svg("circle", { class: "dot", cx: frame.x(value), cy: frame.y(bin.positive[i]), r: 4 }));
  frame.add(path(frame, [0, 1], [0, 1], "line second"), bin.probability.map(dot));
  const [error, reference] = ["ece", "ece_reference"].map((name) => number(run.calibration[name]?.[a], 3));
  const rows = () => bin.probability.map((value, i) => [value, bin.n[i], bin.positive[i], bin.low[i], bin.high[i]]);
  const note = `Dots on the dashed line are calibrated. Calibration error ${error}; of a calibrated head with as many rows ${reference}.`;
  return chart("Reliability", note, frame.node, ["predicted", "rows", "positive", "low", "high"], rows);
}

const CLASSES = [["positive", "column"], ["negative", "column second"], ["missing", "column third"]];

function histogram(of, bins) {
  const most = Math.max(1, ...CLASSES.flatMap(([name]) => of.histogram[name]));
  const frame = plot({ x: [0, 1], y: [0, Math.ceil(most * 1.05)], xLabel: "predicted probability", yLabel: "images" });
  const wide = (frame.x(1) - frame.x(0)) / bins / CLASSES.length;
  const bar = (name, shape, place) => of.histogram[name].map((value, i) => (value ? svg("rect",
    { class: shape, x: frame.x(i / bins) + place * wide, width: wide * 0.9, y: frame.y(value), height: frame.y(0) - frame.y(value) },
    title(`${name}: ${number(value, 1)} images from ${number(i / bins)} to ${number((i + 1) / bins)}`)) : null));
  frame.add(CLASSES.map(([name, shape], place) => bar(name, shape, place)));
  const rows = () => of.histogram.positive.map((value, i) => [i / bins, value, of.histogram.negative[i], of.histogram.missing[i]]);
  const heads = ["from", "positive", "negative", "missing label"];
  return el("div", {}, chart("Scores by class", "Images per seed in each twentieth.", frame.node, heads, rows),
    legend([boxMark("column"), "positive"], [boxMark("column second"), "negative"], [boxMark("column third"), "missing label"]));
}

function lossCurve(loss) {
  const all = [0, ...loss.training, ...loss.validation];
  const frame = plot({ x: [0, last(loss.iteration)], y: extent(all, 0.01), xLabel: "iteration", yLabel: "loss" });
  frame.add(path(frame, loss.iteration, loss.training), path(frame, loss.validation_iteration, loss.validation, "line second"));
  const rows = () => [...loss.iteration.map((value, i) => ["training", value, loss.training[i]]),
    ...loss.validation_iteration.map((value, i) => ["validation", value, loss.validation[i]])];
  const marks = [[lineMark("line"), "training"], ...(loss.validation.length ? [[lineMark("line second"), "validation"]] : [])];
  return el("div", {}, chart("Loss", "Means over the heads of the run.", frame.node, ["rows", "iteration", "loss"], rows), legend(...marks));
}

function confusion({ tp, fp, fn, tn }) {
  const counted = (value, text) => cell(value, el("span", {}, whole(value), el("small", {}, text)));
  const row = (name, ...cells) => el("tr", {}, el("th", { scope: "row" }, name), cells);
  return el("figure", {}, el("figcaption", {}, el("b", {}, "Confusion counts")),
    el("table", { class: "matrix" }, headRow(["", "predicted positive", "predicted negative"]), el("tbody", {},
      row("positive", counted(tp, "true positives"), counted(fn, "false negatives")),
      row("negative", counted(fp, "false positives"), counted(tn, "true negatives")))),
    el("p", { class: "quiet" }, "Test images at the tuned thresholds, means over the seeds."));
}

function behaviour(doc, choice, redraw) {
  const options = runOptions(doc, true), id = doc.curves[choice.run] ? choice.run : options[0][0], run = byId(doc, id);
  const a = Math.max(0, choice.attribute), { attributes: curves, loss } = doc.curves[id], of = curves[a];
  const folds = doc.data.folds.length > 1 ? " and fold" : "";
  const few = options.length < doc.ranking.length
    ? ` The page has the curves of ${options.length} of ${doc.ranking.length} runs: the best on validation, the simplest and the baseline.`
    : "";
  return [
    el("div", { class: "tools" }, options.length > 1 ? select("run", options, id, (value) => redraw({ run: value })) : null,
      select("attribute", attributeOptions(doc), a, (value) => redraw({ attribute: Number(value) }))),
    el("p", { class: "quiet" }, `${run.name}, ${doc.attributes[a].name}, on test images. Curves: means over seeds${folds && " and folds"}; `
      + `bands: the lowest and the highest seed.${few}`),
    el("div", { class: "small" }, precisionRecall(of, doc.grid.recall, run, a), f1ByThreshold(of, doc.grid.threshold, run, a, folds),
      reliability(of, run, a), histogram(of, doc.grid.bins), lossCurve(loss), confusion(of.confusion)),
  ];
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
  const box = { viewBox: `0 0 ${width} ${26 * names.length + 6}`, class: "chart", role: "img", "aria-label": "Labels by attribute" };
  const rows = () => names.map((name, a) => [name, data.n_positive[a], data.n_observed[a] - data.n_positive[a], missing[a]]);
  return el("div", {}, chart("Labels by attribute", "Of the images that were used; NA: the label is missing.", svg("svg", box, names.map(bar)),
    ["attribute", "positive", "negative", "missing"], rows),
  legend([boxMark("column"), "positive"], [boxMark("column second"), "negative"], [boxMark("column third"), "missing"]));
}

// Numbers of images for each pair of attributes, tinted by a correlation; on the diagonal those of one attribute.
function pairs(heading, note, names, counts, correlations, low, high) {
  const own = (a) => el("td", { class: "own" }, whole(counts[a][a]));
  const pair = (a, b) => heatCell(correlations[a][b], low, high, whole(counts[a][b]), { title: `correlation ${exact(correlations[a][b])}` });
  const row = (name, a) => el("tr", {}, el("th", { scope: "row" }, name), names.map((_, b) => (a === b ? own(a) : pair(a, b))));
  return el("figure", {}, el("figcaption", {}, el("b", {}, heading)), grid(heading, "heat board", ["", ...names], names.map(row)),
    el("p", { class: "quiet" }, note));
}

function labelsPerFold(data, names) {
  const several = data.folds.length > 1;
  const rows = data.folds.flatMap((fold, place) => ["train", "val", "test"].map((part) => [several ? `fold ${place}, ${part}` : part,
    fold[part].images, ...names.map((_, a) => `${fold[part].positive[a]} of ${fold[part].observed[a]}`)]));
  return [el("h3", {}, "Labels per fold"), table(["part", "images", ...names], rows, "Positive labels, of those observed")];
}

function dataSection(doc) {
  const data = doc.data, names = doc.attributes.map((attribute) => attribute.name);
  const missing = names.map((_, a) => (data.n_observed ? data.n_used - data.n_observed[a] : null));
  const fewer = isNumber(data.n_groups) && data.n_groups < data.n_used;
  const grouped = fewer ? `, in ${whole(data.n_groups)} groups that a split keeps together` : "";
  const phis = data.phi.flatMap((row, a) => row.filter((value, b) => a !== b && isNumber(value)));
  const which = `of ${whole(data.rows)}${data.all_rows ? "" : " validation and test images"}`;
  const skipped = data.skipped.slice(0, 200).map((item) => [item.image_id, item.line, item.reason]);
  return [
    el("p", {}, `${whole(data.n_used)} of ${whole(data.n_listed)} listed images were used${grouped}. ${data.skipped.length || "None"} skipped.`),
    data.n_observed ? labelCounts(data, names, missing) : null,
    names.length > 1 && names.length <= FEW_PAIRS ? [
      pairs("Missing together", `Images where both labels are missing, ${which}; tint: correlation of what is missing. On the diagonal: `
        + "missing at all.", names, data.missing_both, data.missing_phi, -1, 1),
      pairs("Positive together", `Images where both labels are positive, ${which}; tint: correlation of the labels (orange: they exclude `
        + "each other). On the diagonal: positive.", names, data.both_positive, data.phi, Math.min(0, ...phis), Math.max(0.1, ...phis))] : null,
    labelsPerFold(data, names),
    skipped.length ? [el("h3", {}, "Skipped images"),
      table(["image", "line", "reason"], skipped, `the first ${skipped.length} of ${data.skipped.length}`)] : null,
    data.notes.length ? [el("h3", {}, "Notes on the data"), el("ul", {}, data.notes.map((note) => el("li", {}, note)))] : null,
  ];
}
