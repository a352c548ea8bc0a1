"use strict";
// The page is complete without this script; it adds sorting, filtering and rating.
(function () {
  const make = (name, attributes, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  const compare = (a, b, numeric) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const key = (row) => row.cells[column].dataset.sort;
        const rows = [...table.tBodies[0].rows];
        const numeric = rows.every((row) => key(row) === "" || Number.isFinite(Number(key(row))));
        const known = rows.filter((row) => key(row) !== "");
        const missing = rows.filter((row) => key(row) === "");
        known.sort((a, b) => sign * compare(key(a), key(b), numeric));
        table.tBodies[0].append(...known, ...missing);
      });
    });
  };

  const filterable = (box) => {
    const table = box.querySelector("table");
    const heads = [...table.tHead.rows[0].cells];
    const count = make("output", { "aria-live": "polite" });
    const text = make("input", { type: "search", autocomplete: "off" });
    const choosers = heads.flatMap((head, column) => {
      if (!head.dataset.choices) return [];
      const options = JSON.parse(head.dataset.choices).map((value) => {
        const option = make("option", {}, value);
        option.value = value;
        return option;
      });
      const every = make("option", {}, "all");
      every.value = "\u0000";
      return [{ column, select: make("select", {}, every, ...options), title: head.textContent }];
    });
    const apply = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const content = row.textContent.toLowerCase();
        const chosen = choosers.every(
          ({ column, select }) => select.value === "\u0000" || row.cells[column].textContent === select.value
        );
        row.hidden = !(chosen && words.every((word) => content.includes(word)));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
    };
    const bar = make("div", { class: "filters" }, make("label", {}, "Search", text));
    for (const { select, title } of choosers) bar.append(make("label", {}, title, select));
    bar.append(count);
    bar.addEventListener("input", apply);
    box.prepend(bar);
    apply();
  };

  // Ratings stay in this browser; without storage they last as long as the page.
  const store = `shiftkit-ratings-${document.body.dataset.run}`;
  let ratings = {};
  try {
    ratings = JSON.parse(localStorage.getItem(store)) || {};
  } catch {
    ratings = {};
  }
  const remember = () => {
    try {
      localStorage.setItem(store, JSON.stringify(ratings));
    } catch {
      // A browser that keeps nothing still exports.
    }
  };
  const fields = ["participant_id", "bundle", "hemisphere", "model", "rating", "comment"];
  const clean = (text) => String(text).replace(/[\t\r\n]+/g, " ");
  const exported = () =>
    [fields, ...Object.keys(ratings).sort().map((key) => fields.map((name) => ratings[key][name] || "n/a"))]
      .map((row) => row.map(clean).join("\t") + "\n")
      .join("");

  // The same case can be rated on its card and in the viewer: each box follows the others.
  const boxes = [];
  const ratingBox = (who, name) => {
    const { participant, bundle, hemisphere, model } = who;
    const key = [participant, bundle, hemisphere, model].join("\t");
    const change = (field, value) => {
      ratings[key] = { participant_id: participant, bundle, hemisphere, model, ...ratings[key], [field]: value };
      if (!ratings[key].rating && !ratings[key].comment) delete ratings[key];
      remember();
      boxes.filter((other) => other.key === key && other.box !== box).forEach((other) => other.follow());
    };
    const box = make("fieldset", { class: "rating" }, make("legend", {}, "Your rating of the prediction"));
    const radios = ["good", "doubtful", "bad"].map((word) => {
      const radio = make("input", { type: "radio", name, value: word });
      radio.addEventListener("change", () => change("rating", word));
      box.append(make("label", {}, radio, ` ${word}`));
      return radio;
    });
    const comment = make("input", { type: "text", autocomplete: "off" });
    comment.addEventListener("input", () => change("comment", comment.value.trim()));
    box.append(make("label", { class: "comment" }, "comment ", comment));
    const follow = () => {
      const kept = ratings[key] || {};
      for (const radio of radios) radio.checked = kept.rating === radio.value;
      comment.value = kept.comment || "";
    };
    follow();
    boxes.push({ key, box, follow });
    return box;
  };
  const viewer = document.getElementById("viewer");
  if (viewer) {
    const known = JSON.parse(document.getElementById("viewer-cases").textContent);
    const place = viewer.querySelector(".viewer-rating");
    viewer.addEventListener("case", (event) => {
      const before = boxes.findIndex((one) => one.box === place.firstChild);
      if (before >= 0) boxes.splice(before, 1);
      place.replaceChildren(ratingBox(known[event.detail], "rating-in-viewer"));
    });
  }

  const cards = document.querySelectorAll(".case");
  cards.forEach((card) => card.append(ratingBox(card.dataset, `rating-${card.id}`)));
  if (cards.length) {
    const button = make("button", { type: "button", class: "button" }, "Download my ratings (TSV)");
    button.addEventListener("click", () => {
      const link = make("a", { download: "ratings.tsv" });
      link.href = URL.createObjectURL(new Blob([exported()], { type: "text/tab-separated-values" }));
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    document.querySelector(".cases").before(make("p", { class: "rating" }, button));
  }

  document.querySelectorAll(".table.tools").forEach(filterable);
  document.querySelectorAll("table.sortable").forEach(sortable);
  // A print shows what is folded away on the screen, except long data tables.
  const folded = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((details) => {
      if (details.querySelectorAll("tr").length < 40) {
        details.open = true;
        folded.push(details);
      }
    });
  });
  addEventListener("afterprint", () => folded.splice(0).forEach((details) => (details.open = false)));
})();
