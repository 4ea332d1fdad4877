// Attributes, one run, and where it is wrong. What a part of the page is, see runs.js.

function attributeTable(doc, choice, redraw) {
  const run = byId(doc, choice.run), options = runOptions(finished(doc));
  const domain = extent([...doc.all_positive, ...figures(run, [...TUNED, "f1_default"], -1), ...[...TUNED, "f1_default"].flatMap((name) => run.figures[name])]);
  const isOpen = doc.attributes.some((attribute) => attribute.needed);
  const row = (attribute, a) => {
    const tuned = figures(run, TUNED, a), [value, low, high] = tuned;
    const [half, floor, observed, positive] = figures(run, ["f1_default", "floor_f1", "n_observed", "n_positive"], a);
    const text = `${attribute.name}: F1 ${number(value, 3)} (${interval(low, high, 3)}), at 0.5 ${number(half, 3)}, all positive ${number(floor, 3)}`;
    const few = run.few[a] && [" ", el("span", { class: "chip", title: "few test rows: TP, or FP + FN, below 5" }, "few rows")];
    return rowOf([attribute.name, few],
      el("td", {}, el("span", { class: `word ${attribute.word.split(" ")[0]}`, title: attribute.tests }, attribute.word)),
      cell(attribute.gain, `${number(attribute.gain, 3, true)} (≥ ${number(attribute.gain_low, 3, true)})`),
      bars(domain, tuned, floor, text, half),
      cell(value, `${number(value, placesOf(low, high))} (${interval(low, high)})`), cell(half), cell(floor),
      figures(run, ["roc_auc", "average_precision"], a).map((one) => cell(one)), cell(run.na_low[a], interval(run.na_low[a], run.na_high[a], 2)),
      cell(positive / observed, `${whole(positive)} of ${whole(observed)}`), isOpen && el("td", {}, attribute.needed));
  };
  const heads = ["attribute", "in a word", "tested gain (lower bound)", axisOf(domain), "F1 (95 % interval)", "F1 at 0.5", "all positive", "ROC AUC",
    "AP", "F1 for any NA", "positive labels", ...(isOpen ? ["positives to tell"] : [])];
  return [
    options.length > 1 && tools(select("figures of the run", options, run.id, (value) => redraw({ run: value }))),
    quiet("Filled dot: F1 at tuned thresholds with its 95 % interval; ring: F1 at 0.5; dashed line of each row: all positive. The word and the ",
      "tested gain over all positive are those of the ", options.length > 1 ? "selection on validation" : "run", ", as in the verdict."),
    grid("Attributes", "board narrow", heads, doc.attributes.map(row)),
    definitions(doc.meanings),
  ];
}

const CLASSES = { positive: "column", negative: "column second", missing: "column third" };
const CLASS_LEGEND = Object.entries(CLASSES).map(([name, shape]) => [shape, name === "missing" ? "missing label" : name]);

function behaviour(doc, choice, redraw) {
  const options = runOptions(finished(doc).filter((run) => doc.curves[run.id])), id = doc.curves[choice.run] ? choice.run : options[0][0];
  const run = byId(doc, id), a = Math.max(0, choice.attribute), { recall, threshold, bins } = doc.grid;
  const { attributes: curves, loss } = doc.curves[id], of = curves[a], bin = of.reliability, { tp, fp, fn, tn } = of.confusion;
  const [chosen, floor, precision, observed, positive] = figures(run, ["threshold", "floor_f1", "average_precision", "n_observed", "n_positive"], a);
  const folds = doc.data.folds.length > 1 ? " and folds" : "", [error, reference] = ["ece", "ece_reference"].map((name) => run.calibration[name]?.[a]);
  const most = Math.max(1, ...Object.keys(CLASSES).flatMap((name) => of.histogram[name]));
  const bar = (frame, name, place) => of.histogram[name].map((value, i) => value > 0 && svg("rect", { class: CLASSES[name],
    x: frame.x((i + place / 3) / bins), width: 0.3 * (frame.x(1 / bins) - frame.x(0)), y: frame.y(value), height: frame.y(0) - frame.y(value) },
  title(`${name}: ${number(value, 1)} images from ${number(i / bins)} to ${number((i + 1) / bins)}`)));
  const rest = doc.ranking.length - options.length;
  return [
    tools(options.length > 1 && select("run", options, id, (value) => redraw({ run: value })),
      select("attribute", attributeOptions(doc), a, (value) => redraw({ attribute: Number(value) }))),
    quiet(`${run.name}, ${doc.attributes[a].name}, on test images. Curves: means over seeds${folds}; bands: the lowest and the highest seed.`,
      rest > 0 && ` The page has no curves of ${rest} further runs: it has those of the best on validation, the simplest and the baseline.`),
    el("div", { class: "small" },
      chart({
        name: "Precision and recall", note: `Average precision ${number(precision)}; dashed: prevalence.`, xLabel: "recall", yLabel: "precision",
        marks: (frame) => [frame.level(positive / observed, "baseline", `prevalence ${number(positive / observed, 3)}`),
          frame.band(recall, of.precision_low, of.precision_high), frame.path(recall, of.precision)],
        columns: { recall, precision: of.precision, lowest: of.precision_low, highest: of.precision_high },
      }),
      chart({
        name: "F1 by threshold", xLabel: "threshold", yLabel: "F1",
        note: `Thick line: the mean tuned threshold ${number(chosen)}; short lines: those of all seeds${folds}; dashed: all positive.`,
        marks: (frame) => [frame.level(floor, "baseline", `all positive ${number(floor, 3)}`),
          of.chosen.map((value) => frame.upright(value, 0, 0.08, "chosen", `threshold ${number(value, 3)}`)),
          frame.upright(chosen, 0, 1, "chosen mean", `mean threshold ${number(chosen, 3)}`),
          frame.band(threshold, of.f1_low, of.f1_high), frame.path(threshold, of.f1)],
        columns: { threshold, F1: of.f1, lowest: of.f1_low, highest: of.f1_high },
      }),
      chart({
        name: "Reliability", xLabel: "predicted probability", yLabel: "share of positives",
        note: `Dots on the dashed line are calibrated. Calibration error ${number(error, 3)}; of a calibrated head with as many rows `
          + `${number(reference, 3)}.`,
        marks: (frame) => [frame.path([0, 1], [0, 1], "line second"), bin.probability.map((value, i) => frame.dot(value, bin.positive[i], bin.low[i],
          bin.high[i], ["dot", "bar"], `${number(bin.n[i], 1)} rows: predicted ${number(value, 3)}, positive ${number(bin.positive[i], 3)} (${
            interval(bin.low[i], bin.high[i], 3)})`))],
        columns: { predicted: bin.probability, rows: bin.n, positive: bin.positive, low: bin.low, high: bin.high },
      }),
      chart({
        name: "Scores by class", note: "Images per seed in each twentieth.", xLabel: "predicted probability", yLabel: "images",
        y: [0, Math.ceil(most * 1.05)], legendItems: CLASS_LEGEND, marks: (frame) => Object.keys(CLASSES).map((name, place) => bar(frame, name, place)),
        columns: { from: of.histogram.positive.map((_, i) => i / bins), ...of.histogram },
      }),
      chart({
        name: "Loss", note: "Means over the heads of the run; validation by the heads that predict, which train.averaging may average over epochs.", xLabel: "iteration", yLabel: "loss",
        x: [0, last(loss.iteration)], y: extent([0, ...loss.training, ...loss.validation], 0.01),
        legendItems: [["line", "training"], ...(loss.validation.length ? [["line second", "validation"]] : [])],
        marks: (frame) => [frame.path(loss.iteration, loss.training), frame.path(loss.validation_iteration, loss.validation, "line second")],
        columns: { rows: [...loss.training.map(() => "training"), ...loss.validation.map(() => "validation")],
          iteration: [...loss.iteration, ...loss.validation_iteration], loss: [...loss.training, ...loss.validation] },
      }),
      el("figure", {}, el("figcaption", {}, el("b", {}, "Confusion counts")), table(["label", "decided positive", "decided negative"],
        [["positive", tp, fn], ["negative", fp, tn]], "test images, means over the seeds"))),
  ];
}

const LABELS = { 1: "positive", 0: "negative" };

function imageOf(image, factor, alt) {
  if (!image.thumbnail) return el("span", { class: "quiet" }, "not readable");
  return el("img", { src: `data:image/webp;base64,${image.thumbnail}`, alt, width: factor * image.width, height: factor * image.height });
}

// One image, or a pair, three times as large, with every label and probability.
function enlarge(doc, gallery, place) {
  const dialog = document.getElementById("enlarged"), { run, other, images } = doc.galleries, count = gallery.items.length;
  const step = (by) => {
    enlarge(doc, gallery, (place + by + count) % count);
    dialog.querySelectorAll("button")[by < 0 ? 0 : 1].focus(); // the buttons are new ones
  };
  const row = (image) => (attribute, a) => {
    const p = image.probabilities[a], threshold = image.thresholds[a];
    return [attribute.name, LABELS[image.labels[a]] ?? "missing", p, threshold, p > threshold ? "positive" : "negative", ...(other ? [image.other[a]] : [])];
  };
  const heads = ["attribute", "label", "probability", "threshold", "decision", ...(other ? [byId(doc, other).name] : [])];
  const caption = `probabilities of ${byId(doc, run).name}${other ? `; last column: of ${byId(doc, other).name}` : ""}`;
  const block = (image) => el("div", { class: "enlarged" }, imageOf(image, 3, image.id), el("div", {},
    el("p", {}, el("b", {}, image.id), " ", button("copy the name", (event) => copy(image.id, event.target))),
    table(heads, doc.attributes.map(row(image)), caption)));
  dialog.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  };
  dialog.replaceChildren(tools(button("← previous", () => step(-1)), button("next →", () => step(1)),
    el("span", { class: "quiet" }, `${place + 1} of ${count}`), button("close", () => dialog.close())),
  ...gallery.items[place].images.map((index) => block(images[index])));
  if (!dialog.open) dialog.showModal();
}

function errors(doc) {
  if (!doc.galleries) return quiet(doc.no_images);
  const { run, other, images, kinds, galleries } = doc.galleries;
  const item = (gallery) => ({ images: indices, text }, place) => {
    const those = indices.map((index) => images[index]), label = `${those.map((image) => image.id).join(" and ")}, ${text}: enlarge`;
    return button([el("span", { class: "pair" }, those.map((image) => imageOf(image, 1, ""))), el("span", {}, text)],
      () => enlarge(doc, gallery, place), { "aria-label": label });
  };
  const group = (gallery, place) => {
    const shown = gallery.items.length, number_ = shown < gallery.total ? `${shown} of ${whole(gallery.total)}` : `all ${whole(gallery.total)}`;
    return el("details", { open: place === 0 },
      el("summary", {}, gallery.attribute !== null && el("b", {}, doc.attributes[gallery.attribute].name), el("span", { class: "quiet" }, number_)),
      el("div", { class: "gallery" }, gallery.items.map(item(gallery))));
  };
  const section = ({ kind, heading, note }) => {
    const those = galleries.filter((gallery) => gallery.kind === kind);
    return [el("h3", {}, heading), quiet(those.length ? `${note}.` : "None."), those.map(group)];
  };
  return [doc.no_images && quiet(doc.no_images),
    el("p", {}, `Test images of ${byId(doc, run).name}`, other && `, and where it disagrees with ${byId(doc, other).name}`,
      ". A run decides as most of its seeds do. Select an image to see it larger, with every label and probability."), kinds.map(section)];
}
