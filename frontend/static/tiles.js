// Draws the tiles, and tells Python what is opened, chosen or ticked. Drawn again, it changes only tiles that differ.
function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter(Boolean));
  return element;
}

function pictureOf(tile) {
  if (!tile.picture) return make("span", { className: "away" }, "cannot be shown");
  return make("img", { src: new URL(tile.picture, location.origin), alt: tile.alt_text });
}

// A dialog knows only the grid that had the focus, not the tile in it, and cannot give the focus back to that.
function focusAfterDialog(list) {
  let shown = false;
  list.observer?.disconnect();
  list.observer = new MutationObserver(() => {
    const open = document.querySelector("[data-testid=stDialog]") !== null;
    if (shown && !open) {
      list.observer.disconnect();
      [...list.querySelectorAll(".opens")].find((button) => button.value === list.opened)?.focus();
    }
    shown = open;
  });
  list.observer.observe(document.body, { childList: true, subtree: true });
}

export default function ({ parentElement, data, setTriggerValue, setStateValue }) {
  const list = parentElement.querySelector("ul");
  const toggled = (list.toggled ??= new Set(data.toggled));

  function set(box, checked) {
    box.checked = checked;
    checked === data.ticked.includes(box.value) ? toggled.delete(box.value) : toggled.add(box.value);
  }

  function tick(event) {
    const all = [...list.querySelectorAll("input")], box = event.target;
    const here = all.indexOf(box), before = event.shiftKey ? all.indexOf(list.lastTicked) : -1;
    const range = before < 0 ? [box] : all.slice(Math.min(here, before), Math.max(here, before) + 1);
    range.forEach((one) => set(one, box.checked));
    list.lastTicked = box;
    setStateValue("toggled", [...toggled]);
  }

  function answers(tile) {
    const choose = (event) => {
      event.target.setAttribute("aria-pressed", "true"); // before Python has saved it
      setTriggerValue("chosen", [tile.id, event.target.textContent]);
    };
    const buttons = tile.choices.map((choice) => make("button", { type: "button", onclick: choose }, choice));
    const group = make("div", { className: "choices", role: "group" }, ...buttons);
    group.setAttribute("aria-label", `What is in ${tile.alt_text}?`);
    return group;
  }

  function draw(tile) {
    const shown = [pictureOf(tile)], note = tile.note && make("span", { className: "note" }, tile.note);
    const title = tile.title && make("span", { className: "title" }, tile.title);
    if (data.ticked) {
      const checked = data.ticked.includes(tile.id) !== toggled.has(tile.id);
      const box = make("input", { type: "checkbox", value: tile.id, checked, onclick: tick });
      shown.push(make("span", { className: "title" }, box, make("span", {}, tile.title)));
      return make("li", {}, make("label", {}, ...shown), note);
    }
    if (!data.opens) return make("li", {}, ...shown, title, note);
    const open = () => {
      list.opened = tile.id;
      focusAfterDialog(list);
      setTriggerValue("opened", tile.id);
    };
    const button = make("button", { type: "button", className: "opens", value: tile.id, onclick: open }, ...shown, title);
    return make("li", {}, button, note, tile.choices.length > 0 && answers(tile));
  }

  data.tiles.forEach((tile, position) => {
    const drawn = JSON.stringify(tile), old = list.children[position];
    if (old?.drawn === drawn) return;
    const item = Object.assign(draw(tile), { drawn });
    const focused = old?.matches(":focus-within");
    old ? old.replaceWith(item) : list.append(item);
    if (focused) item.querySelector("button, input")?.focus();
  });
  while (list.children.length > data.tiles.length) list.lastChild.remove();
}
