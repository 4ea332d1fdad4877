// Elements, numbers and tables. Text enters the page as text nodes alone, so no name can become markup.

const isNumber = (value) => typeof value === "number";
const last = (values) => values?.[values.length - 1];

// Control characters and marks that change the direction of what follows, as escapes; line ends and tabs stay.
function visible(text) {
  const escape = (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(/(?![\n\t])[\p{Cc}\p{Cf}\u2028\u2029]/gu, escape);
}

// Attributes that are functions are listeners; children that are null, undefined, false or "" are left out.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  const shown = children.flat(Infinity).filter((child) => child || child === 0);
  node.append(...shown.map((child) => (child instanceof Node ? child : visible(String(child)))));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const quiet = (...text) => el("p", { class: "quiet" }, text);
const button = (text, click, attributes) => el("button", { type: "button", click, ...attributes }, text);

// As `reporting.words.number`: decimals without the leading zero; a value that rounds to 0 has no sign.
function number(value, places = 2, signed = false) {
  if (!isNumber(value)) return "-";
  let text = value.toFixed(places);
  if (!/[1-9]/.test(text)) text = text.replace("-", "");
  else if (signed && value > 0) text = `+${text}`;
  return text.replace(/^([+-]?)0\./, "$1.");
}
// As many decimals as an interval supports, as `report.advice.supported`: two, or three where it is narrower than .01.
const placesOf = (low, high) => (isNumber(low) && isNumber(high) && high - low < 0.01 ? 3 : 2);
const exact = (value) => (isNumber(value) ? `exactly ${value}` : "undefined");
const interval = (low, high, places = placesOf(low, high)) =>
  isNumber(low) && isNumber(high) ? `${number(low, places)} to ${number(high, places)}` : "-";
const whole = (value) => (isNumber(value) ? value.toLocaleString("en-US", { maximumFractionDigits: 1 }) : "-");

function cell(value, text = number(value), attributes = {}) {
  return el("td", { title: isNumber(value) ? exact(value) : null, ...attributes }, text);
}
const rowOf = (name, ...cells) => el("tr", {}, el("th", { scope: "row" }, name), cells);

// A table that scrolls by itself, also by the keyboard. Heads are texts or elements, rows elements.
function grid(label, className, heads, rows, caption) {
  const head = heads.map((one) => (one instanceof Node ? one : el("th", { scope: "col" }, one)));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, el("table", { class: className },
    caption && el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}

// A table of plain values: the first of a row is its name.
function table(heads, rows, label, caption = label) {
  const isCount = (value) => Number.isInteger(value) || Math.abs(value) >= 10;
  const text = (value) => (!isNumber(value) ? value ?? "-" : isCount(value) ? whole(value) : number(value, 3));
  const row = ([name, ...values]) => rowOf(text(name), values.map((value) => cell(value, text(value))));
  return grid(label, null, heads, rows.map(row), caption);
}

function select(label, options, value, change) {
  const choices = options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text));
  return el("label", {}, label, el("select", { change: (event) => change(event.target.value) }, choices));
}
const tools = (...controls) => el("div", { class: "tools" }, controls);
const definitions = (pairs) => el("dl", {}, pairs.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
