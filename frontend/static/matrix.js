// A table whose numbers are buttons: one stop of the tab key, between whose cells the arrow keys move.
const STEPS = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1 };

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export default function ({ parentElement, data, setStateValue }) {
  const table = parentElement.querySelector("table"), drawn = JSON.stringify(data);
  if (table.drawn === drawn) return; // so that the chosen cell keeps the focus
  table.drawn = drawn;

  function choose(event) {
    const old = table.querySelector("[aria-pressed=true]"), cell = event.currentTarget;
    old?.setAttribute("aria-pressed", "false");
    if (cell !== old) cell.setAttribute("aria-pressed", "true");
    setStateValue("cell", cell === old ? null : cell.value.split(" "));
  }

  function move(event) {
    const step = STEPS[event.key], column = event.target.value.split(" ")[1];
    if (!step) return;
    event.preventDefault();
    const inColumn = event.key === "ArrowUp" || event.key === "ArrowDown" ? `[value$=" ${column}"]` : "";
    const line = [...table.querySelectorAll(`button${inColumn}`)];
    line[line.indexOf(event.target) + step]?.focus();
  }

  function stop(event) {
    table.querySelector("[tabindex='0']").tabIndex = -1;
    event.target.tabIndex = 0;
  }

  function cell(number, total, row, column) {
    const share = total ? number / total : 0, item = make("td", {});
    if (!number) return Object.assign(item, { textContent: "0" });
    item.style.setProperty("--share", share);
    const text = `${number.toLocaleString()} of ${data.labels[row]} called ${data.labels[column]}, ${Math.round(share * 100)} %`;
    const button = make("button", { type: "button", value: `${row} ${column}`, title: text, tabIndex: -1 }, number.toLocaleString());
    Object.assign(button, { onclick: choose, onkeydown: move, onfocus: stop, ariaLabel: text, ariaPressed: "false" });
    item.append(button);
    return item;
  }

  const head = make("tr", {}, make("td", {}), ...data.labels.map((name) => make("th", { scope: "col" }, make("span", {}, name))));
  const rows = data.rows.map((numbers, row) => {
    const total = numbers.reduce((sum, number) => sum + number, 0);
    const cells = numbers.map((number, column) => cell(number, total, row, column));
    return make("tr", {}, make("th", { scope: "row" }, make("span", {}, data.labels[row])), ...cells);
  });
  table.ariaLabel = data.title;
  table.className = data.labels.length > data.narrow ? "wide" : "";
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  table.querySelector("button")?.setAttribute("tabindex", "0");
}
