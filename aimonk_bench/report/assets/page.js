// What the reader has chosen, and the sections that follow it.

const KINDS = {
  false_positive: ["Worst false positives", "labelled negative, decided positive; the farthest above the threshold first"],
  false_negative: ["Worst false negatives", "labelled positive, decided negative; the farthest below the threshold first"],
  suspected: ["Suspected label errors", "the label contradicts a confident score (Northcutt et al. 2021); this is no error rate"],
  unknown: ["Missing labels of which the run is surest", "no label; the probabilities nearest to 0 or 1"],
  disagreement: ["Two runs disagree", "decided differently by two runs; the widest apart first"],
  near_duplicates: ["Near duplicates with different labels", "two images that look alike, or are equal, with opposite labels"],
};

function enlarge(doc, gallery, place) {
  const dialog = document.getElementById("enlarged"), item = gallery.items[place], galleries = doc.galleries;
  const images = item.images.map((index) => galleries.images[index]);
  const labels = { 1: "positive", 0: "negative" };
  const rows = (image) => doc.attributes.map((attribute, a) => [attribute.name, el("td", {}, labels[image.labels[a]] ?? "missing"), cell(image.probabilities[a], number(image.probabilities[a], 3)),
    cell(image.thresholds[a], number(image.thresholds[a], 3)), el("td", {}, image.probabilities[a] > image.thresholds[a] ? "positive" : "negative"), ...(galleries.other ? [cell(image.other[a], number(image.other[a], 3))] : [])]);
  const step = (by) => {
    enlarge(doc, gallery, (place + by + gallery.items.length) % gallery.items.length);
    dialog.querySelectorAll("button")[by < 0 ? 0 : 1].focus(); // the buttons are new ones
  };
  dialog.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  };
  dialog.replaceChildren(
    el("div", { class: "tools" }, el("button", { type: "button", click: () => step(-1) }, "← previous"), el("button", { type: "button", click: () => step(1) }, "next →"),
      el("span", { class: "quiet" }, `${place + 1} of ${gallery.items.length}`), el("button", { type: "button", click: () => dialog.close() }, "close")),
    ...images.map((image) => el("div", { class: "enlarged" },
      image.thumbnail ? el("img", { src: `data:image/webp;base64,${image.thumbnail}`, alt: image.id, width: 3 * image.width, height: 3 * image.height }) : el("p", { class: "quiet" }, "The image file could not be read."),
      el("div", {}, el("p", {}, el("b", {}, image.id), " ", el("button", { type: "button", click: (event) => copy(image.id, event.target) }, "copy the name")),
        table(["attribute", "label", "probability", "threshold", "decision", ...(galleries.other ? [bare(doc, byId(doc, galleries.other))] : [])], rows(image), `probabilities of ${bare(doc, byId(doc, galleries.run))}, means over the seeds`)))));
  if (!dialog.open) dialog.showModal();
}

function errors(doc) {
  const galleries = doc.galleries;
  if (!galleries) return [el("p", { class: "quiet" }, doc.no_images)];
  const pictures = (gallery) => el("div", { class: "gallery" }, gallery.items.map((item, place) => {
    const images = item.images.map((index) => galleries.images[index]);
    return el("button", { type: "button", click: () => enlarge(doc, gallery, place), "aria-label": `${item.images.map((index) => galleries.images[index].id).join(" and ")}, ${item.text}: enlarge` },
      el("span", { class: "pair" }, images.map((image) => (image.thumbnail ? el("img", { src: `data:image/webp;base64,${image.thumbnail}`, alt: "", width: image.width, height: image.height, loading: "lazy" }) : el("span", {}, "not readable")))), el("span", {}, item.text));
  }));
  return [doc.no_images ? el("p", { class: "quiet" }, doc.no_images) : null,
    el("p", {}, `Images of ${bare(doc, byId(doc, galleries.run))}${galleries.other ? `, and where it disagrees with ${bare(doc, byId(doc, galleries.other))}` : ""}. A run decides as most of its seeds do. Select an image to see it larger, with every label and probability.`),
    Object.entries(KINDS).map(([kind, [heading, note]]) => {
      const those = galleries.galleries.filter((gallery) => gallery.kind === kind);
      return those.length ? [el("h3", {}, heading), el("p", { class: "quiet" }, `${note}.`), those.map((gallery, place) => el("details", { open: place === 0 }, el("summary", {}, gallery.attribute === null ? null : el("b", {}, doc.attributes[gallery.attribute].name),
        el("span", { class: "quiet" }, gallery.items.length < gallery.total ? `${gallery.items.length} of ${whole(gallery.total)}` : `all ${whole(gallery.total)}`)), pictures(gallery)))] : [el("h3", {}, heading), el("p", { class: "quiet" }, "None.")];
    })];
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
  return doc.runs.flatMap((run) => [...doc.attributes.map((attribute, a) => [attribute.name, a]), ["macro", -1]].map(([attribute, a]) => ({
    run: run.id, state: run.state, ...run.columns, attribute, ...Object.fromEntries(Object.keys(run.figures).map((name) => [name, figure(run, name, a)])),
  })));
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
  const options = runOptions(doc, true), id = doc.making[choice.run] ? choice.run : options[0]?.[0], saved = (end) => `${doc.title.split(":")[0].replace(/[^\w-]+/g, "_").slice(0, 60)}-summary.${end}`;
  const downloads = el("div", { class: "tools" }, el("button", { type: "button", click: () => download(saved("csv"), csv(summaryRows(doc)), "text/csv") }, "download the summary as CSV"), el("button", { type: "button", click: () => download(saved("json"), JSON.stringify(summaryRows(doc), null, 1), "application/json") }, "as JSON"));
  if (!id) return [downloads];
  const made = doc.making[id], weights = made.environment.weights ?? {}, text = (value) => (value !== null && typeof value === "object" ? Object.entries(value).map(([key, part]) => `${key} ${part}`).join(", ") : String(value));
  return [el("p", {}, `Made by aimonk_bench ${doc.version}. Commands, from the folder above the results:`), el("pre", { tabindex: 0 }, doc.commands.join("\n")), downloads,
    options.length > 1 ? el("div", { class: "tools" }, select("settings of the run", options, id, (value) => redraw({ run: value }))) : null,
    el("h3", {}, "Config"), el("p", { class: "quiet" }, "Complete, with file names instead of the paths of the machine. ", el("button", { type: "button", click: (event) => copy(made.config, event.target) }, "copy")), el("pre", { tabindex: 0 }, made.config),
    el("h3", {}, "Weights and licence"), el("dl", {}, Object.entries(weights).map(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, text(value))])),
    el("h3", {}, "Versions and seconds"), el("dl", {}, [...Object.entries(made.environment).filter(([name]) => name !== "weights"), ...Object.entries(made.seconds).map(([phase, value]) => [`seconds: ${phase}`, value])].map(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, text(value))]))];
}

const SECTIONS = [
  ["recommended", "What should I use?", recommended], ["runs", "How do the runs compare?", (...all) => [board(...all), heat(...all), cost(...all)]], ["attributes", "Which attributes work?", attributes],
  ["behaviour", "How does this run behave?", behaviour], ["errors", "Where is it wrong?", errors], ["data", "What is in the data?", dataSection], ["making", "How was it made?", makingSection],
];

function show(documents, index) {
  const doc = documents[index], live = document.getElementById("live"), best = doc.simplest ?? doc.ranking[0];
  const start = { attribute: -1, filter: "", sort: "ranking", down: true, heat: "f1_tuned", run: best };
  live.replaceChildren(el("h1", {}, doc.title), ...doc.heading.map((line) => el("p", { class: "quiet" }, line)), ...SECTIONS.map(([id, heading, render]) => {
    const body = el("div"), choice = { ...start, attribute: id === "behaviour" ? 0 : -1 };
    const draw = () => {
      const active = document.activeElement, place = body.contains(active) ? [...body.querySelectorAll("button, input, select")].indexOf(active) : -1, caret = active?.selectionStart;
      body.replaceChildren(...[render(doc, choice, redraw)].flat(Infinity).filter((node) => node instanceof Node));
      const again = body.querySelectorAll("button, input, select")[place];
      again?.focus({ preventScroll: true });
      if (again?.type === "search") again.setSelectionRange(caret, caret);
    };
    const redraw = (change) => { Object.assign(choice, change); draw(); };
    if (best || id === "recommended" || id === "runs") draw();
    return el("section", { id, "aria-labelledby": `${id}-heading` }, el("h2", { id: `${id}-heading` }, heading), body);
  }));
}

const documents = JSON.parse(document.getElementById("documents").textContent);
if (documents.length > 1) {
  document.getElementById("folders").append(el("label", {}, "results", el("select", { change: (event) => show(documents, Number(event.target.value)) }, documents.map((doc, i) => el("option", { value: i }, doc.title)))));
}
show(documents, 0);
document.documentElement.classList.add("scripted");
document.getElementById("live").hidden = false;
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
