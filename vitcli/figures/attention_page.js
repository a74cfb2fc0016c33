"use strict";

const part = (id) => document.getElementById(id);
const settings = JSON.parse(part("settings").textContent);
const blocks = [...document.querySelectorAll("script.image")];
const images = blocks.map((block) => JSON.parse(block.textContent));
const tables = settings.tables.map(bytesOf); // 256 colours each: for maps without a sign, and with one
const canvas = part("map");
const context = canvas.getContext("2d", { willReadFrequently: true });

/** The current choices. Tokens are numbered as in the model: the prefix tokens come before the patches. */
const state = {
  image: 0, method: "", target: "", layer: 0, head: -1, alpha: settings.alpha, smooth: settings.smooth,
  cursor: null, // the patch under the pointer
  held: null, // the selected token, whose attention stays on the screen
};
let ground = null; // pixels of the image, resized to the canvas
let attention = null; // { scales, shares } of the current image, after unpacking

/* Data */

function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

const image = () => images[state.image];
const countPrefix = () => image().attention?.prefix.length ?? 0;
const place = (patch) => `row ${Math.floor(patch / image().grid[1])}, column ${patch % image().grid[1]}`;
const number = (value, digits = 3) => String(Number(value.toPrecision(digits)));
const tokenName = (token) =>
  token < countPrefix() ? image().attention.prefix[token] : `patch at ${place(token - countPrefix())}`;

function chosenMap() {
  const maps = image().maps.filter((map) => map.method === state.method);
  return maps.find((map) => map.target === state.target) ?? maps[0];
}

const mapName = ({ method, target }) => (target ? `${method} for ${target}` : method);

/** Unpack the zlib data: a float32 per row, then a byte per entry, both (layers, heads, queries, keys); the largest
 * entry of a row is 255. */
async function unpacked(index) {
  const { layers, heads } = images[index].attention;
  const bytes = bytesOf(blocks[index].nextElementSibling.textContent);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const rows = layers.length * heads.length * images[index].tokens;
  return { scales: new Float32Array(buffer, 0, rows), shares: new Uint8Array(buffer, 4 * rows) };
}

/** Return the attention of a token: its share for every token. */
function attentionRow(token) {
  const { tokens, attention: { heads } } = image();
  const chosen = state.head < 0 ? heads.map((_, head) => head) : [state.head];
  const row = new Float64Array(tokens);
  for (const head of chosen) {
    const at = (state.layer * heads.length + head) * tokens + token;
    const unit = attention.scales[at] / 255 / chosen.length;
    for (let key = 0; key < tokens; key++) row[key] += unit * attention.shares[at * tokens + key];
  }
  return row;
}

/** Return the values to draw: the attention of a token, or the map. */
function shown() {
  const token = state.held ?? (state.cursor === null ? null : state.cursor + countPrefix());
  if (token === null || !attention) {
    const map = chosenMap();
    return { values: map.values, isSigned: map.isSigned, name: mapName(map), unit: map.unit, token: null, row: null };
  }
  const row = attentionRow(token);
  const { layers, heads } = image().attention;
  const head = state.head < 0 ? meanOf(heads) : heads[state.head];
  const name = `${layers[state.layer]}, ${heads.length > 1 ? head : heads[0]}: attention of the ${tokenName(token)}`;
  return { values: row.subarray(countPrefix()), isSigned: false, name, unit: "share of attention", token, row };
}

function meanOf(heads) {
  return `mean of ${heads.length} heads`;
}

/* Scale: the same rules as in the figures */

function percentile99(values) {
  const sorted = Float64Array.from(values).sort();
  const at = 0.99 * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

function isNearlyEven(least, most, isSigned) {
  return !isSigned && least > 0 && most - least <= 0.2 * most;
}

function scaleOf(values, isSigned) {
  const least = values.reduce((one, other) => Math.min(one, other));
  const most = values.reduce((one, other) => Math.max(one, other));
  if (settings.norm === "none") return { low: isSigned ? -1 : 0, high: 1, least, most };
  if (most - least <= 1e-6 * Math.max(Math.abs(least), Math.abs(most))) return { low: least, high: least, least, most };
  const norm = settings.norm === "p99" && isNearlyEven(least, most, isSigned) ? "minmax" : settings.norm;
  const sizes = isSigned ? Array.from(values, Math.abs) : values;
  const percentile = norm === "p99" ? percentile99(sizes) : 0;
  const end = percentile > 0 ? percentile : sizes.reduce((one, other) => Math.max(one, other));
  if (isSigned) return { low: -end, high: end, least, most };
  return { low: norm === "minmax" ? least : Math.min(0, least), high: Math.max(end, 0), least, most };
}

/* Drawing */

/** Along one axis, return for every pixel the patches before and after its centre, and its position between them. */
function taps(pixels, patches) {
  const found = { before: new Int32Array(pixels), after: new Int32Array(pixels), way: new Float64Array(pixels) };
  for (let pixel = 0; pixel < pixels; pixel++) {
    const at = ((pixel + 0.5) / pixels) * patches;
    const before = Math.floor(state.smooth ? at - 0.5 : at);
    found.before[pixel] = Math.max(before, 0);
    found.after[pixel] = Math.min(before + 1, patches - 1);
    found.way[pixel] = state.smooth ? at - 0.5 - before : 0;
  }
  return found;
}

function drawOverlay(values, isSigned, scale) {
  const { width, height } = canvas;
  const [rows, columns] = image().grid;
  const { alpha } = state;
  const table = tables[Number(isSigned)];
  const [across, down] = [taps(width, columns), taps(height, rows)];
  const pixels = new ImageData(width, height);
  const [below, above] = [ground.data, pixels.data];
  const line = new Float64Array(columns);
  const range = scale.high - scale.low;
  for (let y = 0, at = 0; y < height; y++) {
    const [first, second] = [down.before[y] * columns, down.after[y] * columns];
    for (let column = 0; column < columns; column++) {
      line[column] = values[first + column] * (1 - down.way[y]) + values[second + column] * down.way[y];
    }
    for (let x = 0; x < width; x++, at += 4) {
      const value = line[across.before[x]] * (1 - across.way[x]) + line[across.after[x]] * across.way[x];
      const fraction = range ? Math.min(Math.max((value - scale.low) / range, 0), 1) : 0.5;
      const colour = 3 * Math.min(Math.floor(256 * fraction), 255);
      above[at] = (1 - alpha) * below[at] + alpha * table[colour];
      above[at + 1] = (1 - alpha) * below[at + 1] + alpha * table[colour + 1];
      above[at + 2] = (1 - alpha) * below[at + 2] + alpha * table[colour + 2];
      above[at + 3] = 255;
    }
  }
  context.putImageData(pixels, 0, 0);
}

function outline(patch, colour) {
  const [rows, columns] = image().grid;
  const [width, height] = [canvas.width / columns, canvas.height / rows];
  const box = [(patch % columns) * width, Math.floor(patch / columns) * height, width, height];
  for (const [stroke, size] of [["black", 5], [colour, 2]]) {
    context.strokeStyle = stroke;
    context.lineWidth = size;
    context.strokeRect(...box);
  }
}

function drawBar(isSigned, scale) {
  const bar = part("bar").getContext("2d");
  const isFlat = scale.low === scale.high;
  for (let at = 0; at < 256; at++) {
    const colour = 3 * (isFlat ? 128 : at);
    bar.fillStyle = `rgb(${tables[Number(isSigned)].subarray(colour, colour + 3).join()})`;
    bar.fillRect(at, 0, 1, 1);
  }
  const ends = isFlat ? [0] : [0, 0.25, 0.5, 0.75, 1];
  const steps = (4 * Math.max(Math.abs(scale.low), Math.abs(scale.high))) / (scale.high - scale.low);
  const digits = isFlat ? 3 : Math.max(3, 1 + Math.ceil(Math.log10(steps))); // enough to tell neighbours apart
  part("ticks").replaceChildren(
    ...ends.map((share) => element("li", { textContent: number(scale.low + (scale.high - scale.low) * share, digits) })),
  );
  part("less").textContent = !isFlat && scale.least < scale.low ? `min ${number(scale.least)} ◂` : "";
  part("more").textContent = !isFlat && scale.most > scale.high ? `▸ max ${number(scale.most)}` : "";
}

/** Describe the value under the pointer and the largest value. */
function describe({ values, name, token, row }) {
  const { cursor } = state;
  const largest = values.indexOf(values.reduce((one, other) => Math.max(one, other)));
  const lines = [];
  if (cursor !== null && row) lines.push(`${mapName(chosenMap())}: ${number(chosenMap().values[cursor])} at ${place(cursor)}`);
  if (cursor !== null) {
    const isItself = token === cursor + countPrefix();
    const what = isItself ? "attention to itself" : row ? "attention" : name;
    lines.push(`${what}: ${number(values[cursor])}${isItself ? "" : ` at ${place(cursor)}`}`);
  }
  lines.push(`largest: ${number(values[largest])} at ${place(largest)}`);
  const outside = row ? image().attention.prefix.map((each, at) => `${each} ${number(row[at])}`) : [];
  if (outside.length) lines.push(`outside the picture: ${outside.join(", ")}`);
  return lines.join("\n");
}

function draw() {
  if (!ground) return;
  const now = shown();
  const scale = scaleOf(now.values, now.isSigned);
  drawOverlay(now.values, now.isSigned, scale);
  drawBar(now.isSigned, scale);
  if (now.token !== null && now.token >= countPrefix()) outline(now.token - countPrefix(), "#00e5ff");
  if (state.cursor !== null && state.cursor + countPrefix() !== now.token) outline(state.cursor, "white");
  canvas.setAttribute("aria-label", now.name);
  const even = isNearlyEven(scale.least, scale.most, now.isSigned) ? "nearly even" : "";
  const colours = even && settings.norm === "p99" ? "colours from minimum to maximum" : settings.normWords;
  part("shown").textContent = [now.name, now.unit, even, colours].filter(Boolean).join(" · ");
  part("value").textContent = describe(now);
  part("hint").hidden = now.row !== null || !attention;
}

/* Controls */

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Show radio buttons; they are built again only if the choices have changed, so that the focus stays. */
function offer(fieldset, choices, chosen, choose) {
  const key = JSON.stringify(choices);
  if (fieldset.dataset.choices !== key) {
    fieldset.dataset.choices = key;
    fieldset.querySelectorAll(".choice").forEach((old) => old.remove());
    for (const [value, words] of choices) {
      const input = element("input", { type: "radio", name: fieldset.id, value });
      fieldset.append(element("label", { className: "choice" }, input, element("span", { textContent: words })));
    }
  }
  for (const input of fieldset.querySelectorAll("input")) {
    input.checked = input.value === chosen;
    input.onchange = () => choose(input.value);
  }
}

function update(changes) {
  Object.assign(state, changes);
  const { maps, attention: stored, attentionNote } = image();
  const unique = (values) => [...new Set(values)];
  if (!maps.some((map) => map.method === state.method)) state.method = maps[0].method;
  const targets = unique(maps.filter((map) => map.method === state.method).map((map) => map.target));
  if (!targets.includes(state.target) && targets[0]) state.target = targets[0];
  const pairs = (values) => values.map((value) => [value, value]);
  const methods = unique(maps.map((map) => map.method));
  offer(part("methods"), pairs(methods), state.method, (method) => update({ method, held: null }));
  offer(part("targets"), pairs(targets), state.target, (target) => update({ target, held: null }));
  part("targets").hidden = !targets[0];
  part("attention").hidden = !attention;
  part("attention-note").textContent = attentionNote;
  part("alpha").value = state.alpha;
  part("alpha-name").textContent = `${Math.round(100 * state.alpha)} %`;
  part("smooth").checked = state.smooth;
  if (attention) {
    const tokens = stored.prefix.map((_, token) => token);
    if (state.held !== null && !tokens.includes(state.held)) tokens.push(state.held);
    const queries = tokens.map((token) => [String(token), `attention of the ${tokenName(token)}`]);
    const hold = (token) => update({ held: token === "" ? null : Number(token) });
    offer(part("queries"), [["", "the map"], ...queries], String(state.held ?? ""), hold);
    part("layer").value = state.layer;
    part("layer-name").textContent = stored.layers[state.layer];
    part("head").value = state.head;
  }
  draw();
}

function offerLayersAndHeads({ layers, heads }) {
  part("layer").max = layers.length - 1;
  const named = heads.map((head, at) => element("option", { value: at, textContent: head }));
  if (heads.length > 1) named.unshift(element("option", { value: -1, textContent: meanOf(heads) }));
  part("head").replaceChildren(...named);
  state.layer = layers.length - 1;
  state.head = heads.length > 1 ? -1 : 0;
}

async function select(index) {
  const chosen = images[index];
  part("problem").hidden = true;
  [ground, attention] = [null, null];
  Object.assign(state, { image: index, cursor: null, held: null });
  part("images").querySelectorAll("button").forEach((button, at) => {
    if (at === index) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  part("name").textContent = chosen.name;
  part("verdict").textContent = chosen.verdict;
  part("verdict").className = { true: "right", false: "wrong" }[chosen.isRight] ?? "";
  const picture = new Image();
  picture.src = chosen.png;
  await picture.decode();
  if (state.image !== index) return; // another image was chosen in the meantime
  [canvas.width, canvas.height] = chosen.size;
  canvas.style.setProperty("--aspect", chosen.size[0] / chosen.size[1]);
  context.imageSmoothingEnabled = picture.width > canvas.width;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  ground = context.getImageData(0, 0, canvas.width, canvas.height);
  document.querySelector("main").hidden = false;
  update({});
  if (!chosen.attention) return;
  const found = await unpacked(index);
  if (state.image !== index) return;
  attention = found;
  offerLayersAndHeads(chosen.attention);
  update({});
}

function show(index) {
  select(index).catch((error) => {
    part("problem").hidden = false;
    part("problem").textContent = `This browser cannot show all of ${images[index].name}: ${error.message}`;
  });
}

/* Pointer and keys */

function patchUnder(event) {
  const box = canvas.getBoundingClientRect();
  const [rows, columns] = image().grid;
  const within = (at, count) => Math.min(Math.max(Math.floor(at * count), 0), count - 1);
  const row = within((event.clientY - box.top) / box.height, rows);
  return row * columns + within((event.clientX - box.left) / box.width, columns);
}

/** Select a patch, so that its attention stays on the screen, or end the selection. */
function toggle(patch) {
  const token = patch + countPrefix();
  update({ cursor: patch, held: !attention || state.held === token ? null : token });
}

function stepped(key) {
  const [rows, columns] = image().grid;
  if (state.cursor === null) return Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  let [row, column] = [Math.floor(state.cursor / columns), state.cursor % columns];
  if (key === "ArrowUp") row = Math.max(row - 1, 0);
  if (key === "ArrowDown") row = Math.min(row + 1, rows - 1);
  if (key === "ArrowLeft") column = Math.max(column - 1, 0);
  if (key === "ArrowRight") column = Math.min(column + 1, columns - 1);
  return row * columns + column;
}

canvas.addEventListener("pointermove", (event) => {
  const cursor = patchUnder(event);
  if (cursor !== state.cursor) update({ cursor });
});
canvas.addEventListener("pointerleave", () => update({ cursor: null }));
canvas.addEventListener("blur", () => update({ cursor: null }));
canvas.addEventListener("click", (event) => toggle(patchUnder(event)));
canvas.addEventListener("keydown", (event) => {
  if (event.key.startsWith("Arrow")) update({ cursor: stepped(event.key) });
  else if ((event.key === "Enter" || event.key === " ") && state.cursor !== null) toggle(state.cursor);
  else if (event.key === "Escape") update({ cursor: null, held: null });
  else return;
  event.preventDefault();
});
part("layer").addEventListener("input", (event) => update({ layer: Number(event.target.value) }));
part("head").addEventListener("change", (event) => update({ head: Number(event.target.value) }));
part("alpha").addEventListener("input", (event) => update({ alpha: Number(event.target.value) }));
part("smooth").addEventListener("change", (event) => update({ smooth: event.target.checked }));

part("images").replaceChildren(
  ...images.map(({ name, png, verdict }, index) =>
    element(
      "button",
      { type: "button", title: `${name}: ${verdict}`, onclick: () => show(index) },
      element("img", { src: png, alt: "", loading: "lazy", decoding: "async" }),
      element("span", { textContent: name }),
    ),
  ),
);
part("images").hidden = images.length < 2;
if (images.length) show(0);
