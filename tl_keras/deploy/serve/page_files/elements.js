// Elements of the page, and what is said of them.

export const id = name => document.getElementById(name);

export function element(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

export function button(text, onclick) {
  const made = element("button", text);
  made.type = "button";
  made.onclick = onclick;
  return made;
}

// To who does not see the page.
export function say(text) { id("said").textContent = text; }

// About no image in particular; nothing takes away what was told before.
export function warn(text = "") { id("problem").textContent = text; }

export const percent = share => `${(100 * share).toFixed(1)} %`;
