// Tables that a click or the keyboard sorts; without this script they are complete and in their first order.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const said = document.createElement("p");
  said.className = "unseen";
  said.setAttribute("role", "status");
  table.parentNode.after(said);
  const numbers = new Intl.Collator(undefined, { numeric: true });
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.better === "high" ? "descending" : "ascending";
      const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
      const sign = order === "ascending" ? 1 : -1;
      const compare = (one, other) => {
        const [a, b] = [one, other].map((row) => row.cells[place].dataset.value ?? row.cells[place].textContent.trim());
        if (a === "" || b === "") return (a === "") - (b === ""); // what is unknown stays at the end
        return sign * (isNaN(a) || isNaN(b) ? numbers.compare(a, b) : a - b);
      };
      table.classList.add("sorted");
      body.append(...[...body.rows].sort(compare));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      said.textContent = `Sorted by ${button.textContent.trim()}, ${order}.`;
    });
  });
}
