// The page: images that are dropped, pasted, chosen or taken, and what the server says of them.

import {Refusal, ask, useToken} from "./ask.js";
import {offerCamera} from "./camera.js";
import {button, element, id, percent, say, warn} from "./elements.js";
import {heatMap} from "./heat_map.js";
import {neighbours, showsPhotos} from "./neighbours.js";

const AT_ONCE = 4, SHOWN = 5;
const waiting = [], refused = [];
let running = 0;

function add(files) {
  warn();
  for (const file of files) {
    const card = element("li"), photo = element("img"), answer = element("div");
    photo.alt = "";
    photo.src = URL.createObjectURL(file);
    photo.onload = () => URL.revokeObjectURL(photo.src);
    photo.onerror = () => { photo.hidden = true; };
    card.append(photo, element("small", file.name), answer);
    id("found").prepend(card);
    wait({file, photo, answer});
  }
}

function wait(item) {
  item.answer.textContent = "waiting …";
  waiting.push(item);
  go();
}

function go() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    answer(waiting.shift()).finally(() => { running -= 1; go(); });
  }
}

async function answer(item) {
  try {
    show(item, await ask("predict", item.file));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    refuse(item, error);
  }
}

function refuse(item, error) {
  const parts = [element("p", error.message, "odd")];
  if (error.mayAskAgain) {
    const row = element("div", undefined, "buttons");
    row.append(button("Ask again", () => wait(item)));
    parts.push(row);
  }
  item.answer.replaceChildren(...parts);
  say(`${item.file.name}: ${error.message}`);
  if (error.status === 401) {
    refused.push(item);
    id("token").hidden = false;
    id("token").querySelector("input").focus();
  }
}

function show(item, told) {
  const rows = Object.entries(told.probabilities ?? {}).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
  const name = nameOf(told), title = element("h2", told.known === false ? "none of these" : name), parts = [title];
  if (told.known === false) {
    title.classList.add("odd");
    parts.push(element("small", `The image is unlike those of training; the nearest class is ${name}.`));
  }
  const others = (told.prediction_set ?? []).filter(label => label !== told.class);
  if (told.known !== false && others.length) parts.push(element("small", `It may also be ${others.join(", ")}.`));
  const map = heatMap(item.file, item.photo, rows.map(([label]) => label), "value" in told);
  item.answer.replaceChildren(...parts, bars(rows), map, ...(showsPhotos ? [neighbours(item.file)] : []));
  say(`${item.file.name}: ${title.textContent}${"probability" in told ? `, ${percent(told.probability)}` : ""}`);
}

function nameOf(told) {
  if ("value" in told) return `${told.value}`;
  return "classes" in told ? told.classes.join(", ") || "none of the classes" : told.class;
}

function bars(rows) {
  const list = element("dl");
  for (const [label, share] of rows) {
    const bar = element("div", undefined, "bar"), cell = element("dd");
    bar.style.width = percent(share).replace(" ", "");
    cell.append(bar);
    list.append(element("dt", label), cell, element("dd", percent(share)));
  }
  return list;
}

id("files").onchange = event => { add(event.target.files); event.target.value = ""; };
document.onpaste = event => add(event.clipboardData.files);
document.ondragover = event => { event.preventDefault(); id("drop").classList.add("over"); };
document.ondragleave = () => id("drop").classList.remove("over");
document.ondrop = event => {
  event.preventDefault();
  id("drop").classList.remove("over");
  add(event.dataTransfer.files);
  if (!event.dataTransfer.files.length) warn("That is no file. Save the picture first, and drop the file.");
};
id("token").onsubmit = event => {
  event.preventDefault();
  useToken(id("token").querySelector("input").value);
  id("token").hidden = true;
  id("files").focus();
  refused.splice(0).forEach(wait);
};
offerCamera(add);
