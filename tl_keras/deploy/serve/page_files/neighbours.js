// The training images that the model takes to be the most alike, where the server shows them.

import {ask} from "./ask.js";
import {button, element, say} from "./elements.js";

export const showsPhotos = document.body.dataset.showsPhotos === "true";

// A button, and below it the images.
export function neighbours(file) {
  const shown = element("div"), all = element("div");
  const toggle = button("Similar training photos", async () => {
    if (toggle.ariaBusy === "true") return;
    if (toggle.getAttribute("aria-expanded") === "true") return close();
    toggle.ariaBusy = true;
    try {
      const told = await ask("neighbours", file);
      shown.replaceChildren(...told.neighbours.map(photo), element("p", "What the model takes to be the most alike among the images that it has learned from."));
      toggle.setAttribute("aria-expanded", true);
      say(`Similar training photos: ${told.neighbours.map(({label}) => label).join(", ")}`);
    } catch (error) {
      shown.replaceChildren(element("p", error.message, "odd"));
      say(error.message);
    }
    toggle.ariaBusy = false;
  });
  const row = element("div", undefined, "buttons");
  shown.className = "near";
  row.append(toggle);
  all.append(row, shown);
  close();

  function close() {
    shown.replaceChildren();
    toggle.setAttribute("aria-expanded", false);
  }
  return all;
}

function photo({label, cosine, picture}) {
  const figure = element("figure"), image = element("img");
  image.src = picture;
  image.alt = `a training photo of ${label}`;
  figure.append(image, element("figcaption", `${label}, likeness ${cosine.toFixed(2)}`));
  return figure;
}
