// Where an answer comes from: a map of the server, laid on the photo as the model sees it.

import {ask} from "./ask.js";
import {button, element, say} from "./elements.js";

const INFERNO = [[0, 0, 4], [33, 12, 74], [87, 16, 110], [138, 34, 106], [188, 55, 84], [228, 90, 49], [249, 142, 9], [249, 203, 53], [252, 255, 164]];
const DIMMED = 0.55, MOST_COVERED = 0.75;  // as in `explain`: of the photo's lightness where the map is 0, of the photo where it is 1
const PADDING = "rgb(128, 128, 128)";
const SIDE = 448;  // pixels that are drawn, at least
const FITS = {crop: Math.max, letterbox: Math.min, stretch: (...scales) => scales};

// A row of what can be done with an image, and below it what comes of that. `photo` is its element, whose place the map takes; `names` are
// the classes that it can be for.
export function heatMap(file, photo, names, isNumber) {
  const canvas = element("canvas"), caption = element("p"), choice = element("select"), label = element("label", "for ");
  const row = element("div", undefined, "buttons"), all = element("div");
  const toggle = button("Heat map", () => toggle.getAttribute("aria-pressed") === "true" ? hide() : show("explain"));
  toggle.setAttribute("aria-pressed", false);
  canvas.setAttribute("role", "img");
  choice.append(...names.map(name => element("option", name)));
  choice.onchange = () => show(`explain?label=${encodeURIComponent(choice.value)}`);
  label.append(choice);
  row.append(toggle);
  all.append(row);

  function hide() {
    canvas.remove();
    caption.remove();
    label.remove();
    photo.hidden = !photo.naturalWidth;  // of a kind that browsers cannot show
    toggle.setAttribute("aria-pressed", false);
  }

  async function show(address) {
    if (toggle.ariaBusy === "true") return;  // a button that is disabled would lose the focus
    toggle.ariaBusy = true;
    try {
      const told = await ask(address, file);
      draw(canvas, photo, told, isNumber);
      caption.className = "";
      caption.textContent = meaning(told, isNumber);
      canvas.setAttribute("aria-label", caption.textContent);
      choice.value = told.label;
      photo.hidden = true;
      photo.after(canvas);
      if (names.length > 1) row.append(label);
      toggle.setAttribute("aria-pressed", true);
    } catch (error) {
      caption.className = "odd";
      caption.textContent = error.message;
    }
    all.append(caption);
    say(caption.textContent);
    toggle.ariaBusy = false;
  }
  return all;
}

function meaning(told, isNumber) {
  if (!told.peak) return `No part of the picture speaks for ${told.label} by itself.`;
  const [row, column] = told.peak.map(share => Math.min(2, Math.floor(3 * share)));
  const place = row === 1 && column === 1 ? "centre" : `${["top", "middle", "bottom"][row]} ${["left", "centre", "right"][column]}`;
  const moves = isNumber ? "moves the number most" : `leaves least that speaks for ${told.label}`;
  return `Brightest where covering the picture ${moves}: at the ${place}.`;
}

function draw(canvas, photo, told, isNumber) {
  const scale = Math.max(1, SIDE / Math.max(...told.image_size)), [height, width] = told.image_size.map(side => Math.round(side * scale));
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = PADDING;
  context.fillRect(0, 0, width, height);
  if (photo.naturalWidth) {
    const scales = [width / photo.naturalWidth, height / photo.naturalHeight], [x, y] = [FITS[told.resize](...scales)].flat();
    const size = [photo.naturalWidth * x, photo.naturalHeight * (y ?? x)];
    context.drawImage(photo, (width - size[0]) / 2, (height - size[1]) / 2, ...size);
  }
  const image = context.getImageData(0, 0, width, height), pixels = image.data, heat = heatOf(told.map, isNumber);
  for (let row = 0, at = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1, at += 4) {
      const value = heat((row + 0.5) / height, (column + 0.5) / width), covered = MOST_COVERED * value, colour = colourOf(value);
      const grey = DIMMED * (0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2]);
      for (let channel = 0; channel < 3; channel += 1) pixels[at + channel] = (1 - covered) * grey + covered * colour[channel];
    }
  }
  context.putImageData(image, 0, 0);
}

// What speaks for the answer at a place, given as shares of height and width: from 0 to 1, between the middles of cells in proportion.
function heatOf(map, isNumber) {
  const cells = map.map(row => row.map(value => isNumber ? Math.abs(value) : Math.max(value, 0)));
  const most = Math.max(...cells.flat()) || 1, last = cells.length - 1;
  const between = share => {
    const at = Math.min(last, Math.max(0, share * cells.length - 0.5)), before = Math.min(last - 1, Math.floor(at));
    return [before, at - before];
  };
  return (y, x) => {
    const [row, down] = between(y), [column, right] = between(x), [above, below] = [cells[row], cells[row + 1]];
    const along = cell => (1 - right) * cell[column] + right * cell[column + 1];
    return ((1 - down) * along(above) + down * along(below)) / most;
  };
}

function colourOf(value) {
  const at = value * (INFERNO.length - 1), before = Math.min(INFERNO.length - 2, Math.floor(at)), part = at - before;
  return INFERNO[before].map((channel, place) => (1 - part) * channel + part * INFERNO[before + 1][place]);
}
