// The data, downloads, and the sections that follow what the reader has chosen.

const FEW_PAIRS = 40; // attributes up to which pairs of attributes are shown

function labelCounts({ n_used: used, n_positive: positive, n_observed: observed }, names) {
  const x = scale([0, used], [1, BARS - 1]);
  const row = (name, a) => {
    const ends = [0, positive[a], observed[a], used], counts = ends.slice(1).map((end, i) => end - ends[i]);
    const stack = Object.values(CLASSES).map((shape, i) => svg("rect", { class: shape, x: x(ends[i]), y: 2, width: x(ends[i + 1]) - x(ends[i]), height: 16 }));
    return rowOf(name, el("td", { class: "bars" }, svg("svg", { viewBox: `0 0 ${BARS} 20`, class: "chart", "aria-hidden": "true" }, stack)),
      counts.map((value) => cell(value, whole(value))), cell(counts[2] / used, `${((100 * counts[2]) / used).toFixed(1)} %`));
  };
  return [el("h3", {}, "Labels by attribute"), grid("Labels by attribute", "board", ["attribute", "images used", "positive", "negative", "missing", "missing"],
    names.map(row)), legend(CLASS_LEGEND)];
}

// Numbers of images for each pair of attributes, tinted by a correlation; on the diagonal those of one attribute.
function pairTable(heading, note, names, counts, correlations, low, high) {
  const pair = (a, b) => (a === b ? cell(null, whole(counts[a][a]), { class: "diagonal" })
    : heatCell(correlations[a][b], low, high, whole(counts[a][b]), { title: `correlation ${exact(correlations[a][b])}` }));
  const rows = names.map((name, a) => rowOf(name, names.map((_, b) => pair(a, b))));
  return el("figure", {}, el("figcaption", {}, el("b", {}, heading)), grid(heading, "heat board", ["", ...names], rows), quiet(note));
}

function dataSection(doc) {
  const data = doc.data, names = doc.attributes.map((attribute) => attribute.name), splits = ["train", "val", "test"];
  const phis = data.phi.flatMap((row, a) => row.filter((value, b) => a !== b && isNumber(value)));
  const which = `of ${whole(data.rows)}${data.all_rows ? "" : " validation and test images"}`;
  const folds = data.folds.flatMap((fold, place) => splits.map((split) => [data.folds.length > 1 ? `fold ${place}, ${split}` : split,
    fold[split].images, ...names.map((_, a) => `${fold[split].positive[a]} of ${fold[split].observed[a]}`)]));
  const skipped = data.skipped.slice(0, 200).map((item) => [item.image_id, item.line, item.reason]);
  return [
    data.lines.map((text) => el("p", {}, text)),
    data.n_observed && labelCounts(data, names),
    names.length > 1 && names.length <= FEW_PAIRS && [
      pairTable("Missing together", `Images where both labels are missing, ${which}; tint: correlation of what is missing. On the diagonal: `
        + "missing at all.", names, data.missing_both, data.missing_phi, -1, 1),
      pairTable("Positive together", `Images where both labels are positive, ${which}; tint: correlation of the labels (orange: they exclude `
        + "each other). On the diagonal: positive.", names, data.both_positive, data.phi, Math.min(0, ...phis), Math.max(0.1, ...phis))],
    el("h3", {}, "Labels per fold"), table(["part", "images", ...names], folds, "Positive labels, of those observed"),
    skipped.length > 0 && [el("h3", {}, "Skipped images"),
      table(["image", "line", "reason"], skipped, `the first ${skipped.length} of ${data.skipped.length}`)],
    data.notes.length > 0 && [el("h3", {}, "Notes on the data"), el("ul", {}, data.notes.map((note) => el("li", {}, note)))],
  ];
}

async function copy(text, pressed) {
  const before = pressed.textContent;
  pressed.textContent = await navigator.clipboard.writeText(text).then(() => "copied", () => "not allowed here: select the text");
  setTimeout(() => { pressed.textContent = before; }, 1500);
}

// The rows of the summary: for every run its attributes and then `macro`. A spreadsheet would take a text that begins
// with one of =+-@ for a formula; in the CSV such a text has an apostrophe before it.
function summaryRows(doc) {
  const numbers = (run, a) => Object.fromEntries(Object.keys(run.figures).map((name) => [name, figure(run, name, a)]));
  const row = (run) => ([a, attribute]) => ({ run: run.id, state: run.state, ...run.columns, attribute, ...numbers(run, a) });
  return doc.runs.flatMap((run) => [...attributeOptions(doc), [-1, "macro"]].map(row(run)));
}
function csv(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const field = (value) => {
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => `${row.map(field).join(",")}\n`).join("");
}
function download(doc, form) {
  const text = form === "csv" ? csv(summaryRows(doc)) : JSON.stringify(summaryRows(doc), null, 1);
  const href = URL.createObjectURL(new Blob([text], { type: form === "csv" ? "text/csv" : "application/json" }));
  el("a", { href, download: `${doc.name.replace(/[^\w-]+/g, "_").slice(0, 60)}-summary.${form}` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

// A part of a section draws itself again when the reader chooses; the control that has the focus keeps it.
function part(doc, render) {
  const body = el("div", {}), controls = () => [...body.querySelectorAll("button, input, select")];
  const choice = { attribute: -1, filter: "", sort: "f1_validation", down: true, heat: "f1_tuned", run: doc.simplest ?? doc.ranking[0] };
  const redraw = (change) => {
    const active = document.activeElement, place = controls().indexOf(active), caret = active.selectionStart;
    Object.assign(choice, change);
    body.replaceChildren();
    fill(body, {}, [render(doc, choice, redraw)]);
    const again = controls()[place];
    again?.focus({ preventScroll: true });
    if (again?.type === "search") again.setSelectionRange(caret, caret);
  };
  redraw({});
  return body;
}

const SECTIONS = [
  ["runs", "How do the runs compare?", [board, withoutFigures, heat, cost]],
  ["attributes", "Which attributes work?", [attributeTable]],
  ["behaviour", "How does this run behave?", [behaviour]],
  ["errors", "Where is it wrong?", [errors]],
  ["data", "What is in the data?", [dataSection]],
];

const none = () => quiet("No run finished.");

function show(place) {
  const doc = documents[place];
  const drawn = (parts) => (doc.ranking.length ? parts : [none, ...parts.filter((render) => render === withoutFigures)]);
  document.getElementById("live").replaceChildren(...SECTIONS.map(([id, heading, parts]) => el("section", { id, "aria-labelledby": `${id}-heading` },
    el("h2", { id: `${id}-heading` }, heading), drawn(parts).map((render) => part(doc, render)))));
  document.querySelectorAll("[data-document]").forEach((node) => { node.hidden = node.dataset.document !== String(place); });
}

const documents = JSON.parse(document.getElementById("documents").textContent);
if (documents.length > 1) document.getElementById("folders").append(select("results", documents.map((doc, i) => [i, doc.title]), 0, show));
show(0);
document.querySelectorAll("pre").forEach((node) => {
  node.before(button("copy", (event) => copy(node.textContent, event.target), { class: "plain" }));
});
document.querySelectorAll("[data-download]").forEach((node) => {
  node.addEventListener("click", () => download(documents[node.closest("[data-document]").dataset.document], node.dataset.download));
});
document.documentElement.classList.add("scripted"); // only now: where something above fails, the static part stays
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
