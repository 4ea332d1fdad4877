// What the reader has chosen, and the sections that follow it.

const KINDS = {
  false_positive: ["Worst false positives", "labelled negative, decided positive; the farthest above the threshold first"],
  false_negative: ["Worst false negatives", "labelled positive, decided negative; the farthest below the threshold first"],
  suspected: ["Suspected label errors", "the label contradicts a confident score (Northcutt et al. 2021); this is no error rate"],
  unknown: ["Missing labels of which the run is surest", "no label; the probabilities nearest to 0 or 1"],
  disagreement: ["Two runs disagree", "decided differently by two runs; the widest apart first"],
  near_duplicates: ["Near duplicates with different labels", "two images that look alike, or are equal, with opposite labels"],
};

const LABELS = { 1: "positive", 0: "negative" };

function imageOf(image, factor, alt) {
  if (!image.thumbnail) return el("span", { class: "quiet" }, "not readable");
  const source = `data:image/webp;base64,${image.thumbnail}`;
  return el("img", { src: source, alt, width: factor * image.width, height: factor * image.height });
}

// One image, or a pair, three times as large, with every label and probability.
function enlarge(doc, gallery, place) {
  const dialog = document.getElementById("enlarged"), { run, other, images } = doc.galleries, count = gallery.items.length;
  const name = (id) => byId(doc, id).name;
  const step = (by) => {
    enlarge(doc, gallery, (place + by + count) % count);
    dialog.querySelectorAll("button")[by < 0 ? 0 : 1].focus(); // the buttons are new ones
  };
  const row = (image) => (attribute, a) => {
    const p = image.probabilities[a], threshold = image.thresholds[a], values = [p, threshold, p > threshold ? "positive" : "negative"];
    return [attribute.name, LABELS[image.labels[a]] ?? "missing", ...values, ...(other ? [image.other[a]] : [])];
  };
  const heads = ["attribute", "label", "probability", "threshold", "decision", ...(other ? [name(other)] : [])];
  const block = (image) => el("div", { class: "enlarged" }, imageOf(image, 3, image.id), el("div", {},
    el("p", {}, el("b", {}, image.id), " ", el("button", { type: "button", click: (event) => copy(image.id, event.target) }, "copy the name")),
    table(heads, doc.attributes.map(row(image)), `probabilities of ${name(run)}${other ? `; last column: of ${name(other)}` : ""}`)));
  dialog.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  };
  dialog.replaceChildren(el("div", { class: "tools" },
    el("button", { type: "button", click: () => step(-1) }, "← previous"), el("button", { type: "button", click: () => step(1) }, "next →"),
    el("span", { class: "quiet" }, `${place + 1} of ${count}`), el("button", { type: "button", click: () => dialog.close() }, "close")),
  ...gallery.items[place].images.map((index) => block(images[index])));
  if (!dialog.open) dialog.showModal();
}

function errors(doc) {
  if (!doc.galleries) return [el("p", { class: "quiet" }, doc.no_images)];
  const { run, other, images, galleries } = doc.galleries;
  const item = (gallery) => ({ images: indices, text }, place) => {
    const those = indices.map((index) => images[index]), label = `${those.map((image) => image.id).join(" and ")}, ${text}: enlarge`;
    return el("button", { type: "button", click: () => enlarge(doc, gallery, place), "aria-label": label },
      el("span", { class: "pair" }, those.map((image) => imageOf(image, 1, ""))), el("span", {}, text));
  };
  const group = (gallery, place) => {
    const shown = gallery.items.length, total = whole(gallery.total), number_ = shown < gallery.total ? `${shown} of ${total}` : `all ${total}`;
    const name = gallery.attribute === null ? null : el("b", {}, doc.attributes[gallery.attribute].name);
    return el("details", { open: place === 0 }, el("summary", {}, name, el("span", { class: "quiet" }, number_)),
      el("div", { class: "gallery" }, gallery.items.map(item(gallery))));
  };
  const kind = ([key, [heading, note]]) => {
    const those = galleries.filter((gallery) => gallery.kind === key);
    return [el("h3", {}, heading), el("p", { class: "quiet" }, those.length ? `${note}.` : "None."), those.map(group)];
  };
  const against = other ? `, and where it disagrees with ${byId(doc, other).name}` : "";
  return [doc.no_images ? el("p", { class: "quiet" }, doc.no_images) : null,
    el("p", {}, `Test images of ${byId(doc, run).name}${against}. A run decides as most of its seeds do. Select an image to see it `
      + "larger, with every label and probability."), Object.entries(KINDS).map(kind)];
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    const area = el("textarea", {}, text);
    (button.closest("dialog") ?? document.body).append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "copied" : "select the text and copy it";
    area.remove();
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

function download(name, text, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The rows of the summary: for every run its attributes and then `macro`. A spreadsheet would take a text that begins
// with one of =+-@ for a formula; in the CSV such a text has an apostrophe before it.
function summaryRows(doc) {
  const places = [...doc.attributes.map((attribute, a) => [attribute.name, a]), ["macro", -1]];
  const numbers = (run, a) => Object.fromEntries(Object.keys(run.figures).map((name) => [name, figure(run, name, a)]));
  const row = (run) => ([attribute, a]) => ({ run: run.id, state: run.state, ...run.columns, attribute, ...numbers(run, a) });
  return doc.runs.flatMap((run) => places.map(row(run)));
}
function csv(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const field = (value) => {
    if (value === null || value === undefined) return "";
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${[names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(field).join(",")).join("\n")}\n`;
}

function makingSection(doc, choice, redraw) {
  const options = runOptions(doc, true), id = doc.making[choice.run] ? choice.run : options[0][0];
  const name = `${doc.name.replace(/[^\w-]+/g, "_").slice(0, 60)}-summary`;
  const save = (end, type, text) => () => download(`${name}.${end}`, text(summaryRows(doc)), type);
  const text = (value) => {
    const parts = value !== null && typeof value === "object" ? Object.entries(value).map(([key, part]) => `${key} ${part}`) : [value];
    return parts.join(", ");
  };
  const list = (entries) => el("dl", {}, entries.map(([key, value]) => [el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, text(value))]));
  const { config, environment, seconds } = doc.making[id], { weights, ...rest } = environment;
  return [
    el("p", {}, `Made by aimonk_bench ${doc.version}. Commands, from the folder above the results:`),
    el("pre", { tabindex: 0 }, doc.commands.join("\n")),
    el("div", { class: "tools" },
      el("button", { type: "button", click: save("csv", "text/csv", csv) }, "download the summary as CSV"),
      el("button", { type: "button", click: save("json", "application/json", (rows) => JSON.stringify(rows, null, 1)) }, "as JSON"),
      options.length > 1 ? select("settings of the run", options, id, (value) => redraw({ run: value })) : null),
    el("h3", {}, "Config"), el("p", { class: "quiet" }, "Complete, with file names instead of the paths of the machine. ",
      el("button", { type: "button", click: (event) => copy(config, event.target) }, "copy")), el("pre", { tabindex: 0 }, config),
    el("h3", {}, "Weights and licence"), list(Object.entries(weights ?? {})),
    el("h3", {}, "Versions and seconds"), list([...Object.entries(rest), ...Object.entries(seconds).map(([phase, s]) => [`seconds: ${phase}`, s])]),
  ];
}

const SECTIONS = [
  ["recommended", "What should I use?", recommended],
  ["runs", "How do the runs compare?", (...all) => [board(...all), withoutFigures(all[0]), heat(...all), cost(...all)]],
  ["attributes", "Which attributes work?", attributes],
  ["behaviour", "How does this run behave?", behaviour],
  ["errors", "Where is it wrong?", errors],
  ["data", "What is in the data?", dataSection],
  ["making", "How was it made?", makingSection],
];

// A section draws itself again when the reader chooses; the control that has the focus keeps it.
function section(doc, [id, heading, render]) {
  const body = el("div"), best = doc.simplest ?? doc.ranking[0];
  const choice = { attribute: id === "behaviour" ? 0 : -1, filter: "", sort: "ranking", down: true, heat: "f1_tuned", run: best };
  const controls = () => [...body.querySelectorAll("button, input, select")];
  const draw = () => {
    const active = document.activeElement, place = controls().indexOf(active), caret = active?.selectionStart;
    body.replaceChildren(...[render(doc, choice, redraw)].flat(Infinity).filter((node) => node instanceof Node));
    const again = controls()[place];
    again?.focus({ preventScroll: true });
    if (again?.type === "search") again.setSelectionRange(caret, caret);
  };
  const redraw = (change) => { Object.assign(choice, change); draw(); };
  if (best || id === "recommended") draw();
  else body.append(el("p", {}, "No run finished."), ...(id === "runs" ? [withoutFigures(doc)] : []));
  return el("section", { id, "aria-labelledby": `${id}-heading` }, el("h2", { id: `${id}-heading` }, heading), body);
}

function show(doc) {
  const heading = [el("h1", {}, doc.title), ...doc.heading.map((line) => el("p", { class: "quiet" }, line))];
  document.getElementById("live").replaceChildren(...heading, ...SECTIONS.map((one) => section(doc, one)));
}

const documents = JSON.parse(document.getElementById("documents").textContent);
if (documents.length > 1) {
  const options = documents.map((doc, i) => [i, doc.title]);
  document.getElementById("folders").append(select("results", options, 0, (i) => show(documents[i])));
}
show(documents[0]);
document.documentElement.classList.add("scripted"); // only now: where something above fails, the static part stays
document.getElementById("live").hidden = false;
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
