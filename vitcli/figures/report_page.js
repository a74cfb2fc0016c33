"use strict";

const part = (id) => document.getElementById(id);
/** By run: the names of the classes; the meaning of the colours of the maps, and the command that draws more of them. */
const { runs: classes, maps } = JSON.parse(part("facts").textContent);
/** "run-true-predicted" -> the block of its pictures, which is read when the cell is opened. */
const cells = new Map([...document.querySelectorAll("script.cell")].map((block) => [block.dataset.cell, block]));

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/* Tables */

/** Return what a cell is sorted by: its number, NaN if it has none, or its text. */
function keyOf(row, column, isNumber) {
  const text = row.cells[column].textContent.trim();
  if (!isNumber) return text;
  return parseFloat(text.replaceAll(",", ""));
}

const inOrder = new Intl.Collator(undefined, { numeric: true }).compare;

/**
 * Sort the rows by a column: numbers begin with the largest, texts with the first; a second click turns it around.
 * Rows without a number come last in both orders.
 */
function sortBy(heading) {
  const table = heading.closest("table");
  const column = heading.cellIndex;
  const isNumber = heading.classList.contains("number");
  const before = heading.getAttribute("aria-sort");
  const isFalling = before ? before === "ascending" : isNumber;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", isFalling ? "descending" : "ascending");
  const keyed = [...table.tBodies[0].rows].map((row) => [keyOf(row, column, isNumber), row]);
  const sign = isFalling ? -1 : 1;
  keyed.sort(([one], [other]) => {
    if (!isNumber) return sign * inOrder(one, other);
    return Number.isNaN(one) - Number.isNaN(other) || sign * (one - other) || 0;
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

/** Show only the rows with some text in a column that holds no numbers, and count them. */
function filter(field) {
  const box = field.closest(".table");
  const [body] = box.querySelector("table").tBodies;
  const columns = [...box.querySelector("thead tr").cells].filter((cell) => !cell.classList.contains("number"));
  const wanted = field.value.trim().toLocaleLowerCase();
  let shown = 0;
  for (const row of body.rows) {
    row.hidden = !columns.some(({ cellIndex }) => row.cells[cellIndex].textContent.toLocaleLowerCase().includes(wanted));
    shown += Number(!row.hidden);
  }
  box.querySelector(".filtered").textContent = wanted ? `${shown} of ${body.rows.length} rows` : "";
}

/* Tables that are wider than their box: a shadow lies on each edge behind which there is more */

function showEdges(box) {
  const hidden = box.scrollWidth - box.clientWidth;
  box.classList.toggle("more-left", box.scrollLeft > 1);
  box.classList.toggle("more-right", box.scrollLeft < hidden - 1);
}

const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => showEdges(target.closest(".scroll"))));
for (const box of document.querySelectorAll(".scroll")) {
  resized.observe(box);
  resized.observe(box.firstElementChild);
  box.addEventListener("scroll", () => showEdges(box), { passive: true });
}

/* Pictures of a cell */

const percent = (share) => `${(100 * share).toFixed(2)} %`;

function figureOf(run, truth, predicted, [number, name, confidence, ofTruth, source, isSmall]) {
  const names = classes[run];
  const map = part(`map-${run}-${number}`);
  const pictures = [element("img", { src: source, alt: name, className: isSmall ? "small" : "" })];
  if (map) pictures.push(element("img", { src: map.src, alt: map.alt }));
  const words = `predicted ${names[predicted]} with ${percent(confidence)}`;
  const lines = [element("b", { textContent: `true class: ${names[truth]}` }), element("br")];
  lines.push(truth === predicted ? words : `${words}, ${names[truth]} has ${percent(ofTruth)}`, element("br"));
  lines.push(element("span", { className: "name", textContent: name }));
  return element("figure", {}, ...pictures, element("figcaption", {}, ...lines));
}

/** Say what the maps of some pictures show, and why mistakes have none. */
function aboutMaps(run, found, isWrong) {
  const [legend, command] = maps[run];
  const without = found.filter(([, [number]]) => !part(`map-${run}-${number}`)).length;
  if (!isWrong) return found.length ? ["Maps are drawn of mistakes only."] : [];
  const words = without < found.length ? [legend] : [];
  if (without) {
    const drawn = document.querySelectorAll(`[id^="map-${run}-"]`).length;
    const why = drawn ? `this page has maps of ${drawn} mistakes only` : "this page has no maps";
    words.push(` ${without} of ${found.length} have no map, because ${why}${command ? ": " : "."}`);
    if (command) words.push(element("code", { textContent: command }), " draws more.");
  }
  return words;
}

/** Show the pictures of a cell; "run-true-wrong" stands for all mistakes of a class. */
function open(button) {
  const [run, truth, given] = button.dataset.cell.split("-");
  const keys = given === "wrong"
    ? classes[run].map((_, at) => `${run}-${truth}-${at}`).filter((key) => key !== `${run}-${truth}-${truth}`)
    : [button.dataset.cell];
  const found = keys.filter((key) => cells.has(key)).flatMap((key) => {
    const predicted = Number(key.split("-")[2]);
    return JSON.parse(cells.get(key).textContent).map((picture) => [predicted, picture]);
  });
  const isWrong = given !== truth;
  found.sort(([, one], [, other]) => (isWrong ? other[2] - one[2] : one[2] - other[2]));
  const total = Number(button.textContent.replaceAll(",", ""));
  part("cell-title").textContent = button.getAttribute("aria-label");
  const order = isWrong ? "the surest first" : "the least sure first";
  part("cell-note").textContent = found.length === total
    ? `all ${total}, ${order}`
    : `${found.length} of ${total}, ${order}; left out of this page: ${total - found.length}`;
  part("cell-maps").replaceChildren(...aboutMaps(run, found, isWrong));
  part("cell-pictures").replaceChildren(...found.map(([predicted, picture]) => figureOf(run, Number(truth), predicted, picture)));
  part("cell").showModal();
}

/** Tell whether an event is outside of the dialog, on the page behind it. */
function isOutside({ clientX, clientY }) {
  const box = part("cell").getBoundingClientRect();
  return clientX < box.left || clientX > box.right || clientY < box.top || clientY > box.bottom;
}

let beganOutside = false;
document.addEventListener("pointerdown", (event) => (beganOutside = isOutside(event)));
document.addEventListener("click", (event) => {
  const { target } = event;
  const button = target.closest("button");
  if (button?.classList.contains("sort")) sortBy(button.closest("th"));
  else if (button?.classList.contains("open")) open(button);
  else if (button?.id === "close") part("cell").close();
  else if (target === part("cell") && beganOutside && isOutside(event)) part("cell").close();
});
document.addEventListener("input", ({ target }) => {
  if (target.classList.contains("filter")) filter(target);
});
