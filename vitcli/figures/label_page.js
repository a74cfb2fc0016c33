"use strict";

const part = (id) => document.getElementById(id);
const read = (id) => JSON.parse(part(id).textContent);
const facts = read("facts"); // classes: their names; values: how a table of labels writes them; hasSplits
const images = new Map([...document.querySelectorAll("script.image")].map((block) => {
  const image = JSON.parse(block.textContent);
  return [image.row, image];
}));
const index = new Map(facts.classes.map((name, at) => [name, at]));

/** row -> a class, or "drop"; images without an entry keep their label. */
const choices = new Map();
let isDownloaded = true; // the table has all choices

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/* The table to download */

/** Unpack the zlib data: JSON of names, labels (numbers of classes) and splits, one of each for every image. */
async function unpacked() {
  const letters = atob(part("rows").textContent);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

const cell = (text) => (/^\s|\s$|[",;|\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

async function table() {
  const { names, labels, splits } = await unpacked();
  const lines = [facts.hasSplits ? "path,label,split" : "path,label"];
  names.forEach((name, row) => {
    const choice = choices.get(row);
    if (choice === "drop") return;
    const cells = [name, facts.values[choice ?? labels[row]]];
    if (facts.hasSplits) cells.push(splits[row]);
    lines.push(cells.map(cell).join(","));
  });
  return lines.join("\n") + "\n";
}

async function download() {
  const address = URL.createObjectURL(new Blob([await table()], { type: "text/csv" }));
  element("a", { href: address, download: facts.file }).click();
  isDownloaded = true;
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/* Cards */

function count() {
  const dropped = [...choices.values()].filter((choice) => choice === "drop").length;
  part("counts").textContent = `${choices.size - dropped} relabelled, ${dropped} dropped of ${facts.total} images`;
}

/** Set the choice of an image, on all cards that show it. */
function choose(row, choice) {
  const before = choices.get(row);
  if (choice === undefined || choice === images.get(row).label) choices.delete(row);
  else choices.set(row, choice);
  if (choices.get(row) !== before) isDownloaded = false;
  const kind = choices.has(row) ? (choice === "drop" ? "drop" : "relabel") : "keep";
  for (const card of document.querySelectorAll(`.card[data-row="${row}"]`)) {
    card.querySelector(`input[value="${kind}"]`).checked = true;
    const field = card.querySelector("input[list]");
    if (kind === "relabel") field.value = facts.classes[choice];
    field.setCustomValidity("");
  }
  count();
}

let cards = 0;

function cardOf(row) {
  const image = images.get(row);
  const name = `choice-${cards++}`;
  const field = element("input", { value: facts.classes[image.suggested] ?? "" });
  field.setAttribute("list", "classes");
  field.setAttribute("aria-label", "New class");
  const radio = (value) => {
    const input = element("input", { type: "radio", name, value, checked: value === "keep" });
    input.addEventListener("change", () => (value === "relabel" ? relabel() : choose(row, value === "drop" ? "drop" : undefined)));
    return element("label", {}, input, ` ${value}`);
  };
  /** Take the class in the field; a text that is no class changes nothing, and the field says so. */
  function relabel() {
    const text = field.value;
    const known = index.get(text);
    choose(row, known ?? choices.get(row));
    if (known !== undefined) return;
    field.value = text;
    if (text) {
      field.setCustomValidity("Not a class of this data set");
      field.reportValidity();
    } else field.focus();
  }
  field.addEventListener("change", relabel);
  const pictures = element("div", { className: "pictures" });
  for (const [source, alt] of [[image.picture, image.name], [image.map, "what the prediction is based on"]]) {
    if (source) pictures.append(element("img", { src: source, alt, title: alt, className: image.isSmall ? "small" : "" }));
  }
  const card = element(
    "fieldset",
    { className: "card" },
    element("legend", { textContent: image.name }),
    pictures,
    element("p", { className: "label", textContent: `label: ${facts.classes[image.label]}` }),
    ...image.reasons.map((reason) => element("p", { textContent: reason })),
    element("p", { className: "note", textContent: `${image.split} split` }),
    element("div", { className: "choices" }, radio("keep"), radio("drop"), radio("relabel"), field),
  );
  card.dataset.row = row;
  return card;
}

function show() {
  part("classes").append(...facts.classes.map((value) => element("option", { value })));
  for (const { title, note, entries } of read("sections")) {
    const shown = entries.map(({ title: heading, rows }) =>
      element(
        "div",
        { className: heading ? "entry group" : "entry" },
        ...(heading ? [element("h3", { textContent: heading })] : []),
        element("div", { className: "cards" }, ...rows.map(cardOf)),
      ),
    );
    document.querySelector("main").append(
      element("h2", { textContent: title }),
      element("p", { className: "note", textContent: note }),
      element("div", { className: "entries" }, ...shown),
    );
  }
  part("download").addEventListener("click", () => {
    download().catch((error) => {
      part("problem").textContent = `The table cannot be written: ${error.message}`;
      part("problem").hidden = false;
    });
  });
  addEventListener("beforeunload", (event) => {
    if (!isDownloaded) event.preventDefault(); // the browser asks whether to leave
  });
  part("download").textContent = `Download ${facts.file}`;
  count();
}

show();
