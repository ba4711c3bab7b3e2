"use strict";
/* What the pages of reports share: colours, layouts, sortable tables, and drawing again when the page changes. */
const page = (() => {
  const element = (id) => document.getElementById(id);
  const narrow = () => window.innerWidth < 700;
  const coarse = () => window.matchMedia("(pointer: coarse)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function base(height) {
    const axis = {
      gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("grid"), tickcolor: colour("line"), automargin: true,
    };
    return {
      axis,
      layout: {
        height, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colour("text"), size: narrow() ? 11 : 12.5, family: getComputedStyle(document.body).fontFamily },
        margin: narrow() ? { l: 8, r: 22, t: 10, b: 40 } : { l: 60, r: 26, t: 10, b: 48 },
        hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("text"), size: 12 }, align: "left" },
        legend: {
          orientation: "h", x: 0, y: 1.01, xanchor: "left", yanchor: "bottom", traceorder: "normal",
          font: { size: narrow() ? 10.5 : 12 },
        },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("muted"), activecolor: colour("accent") },
        dragmode: coarse() ? false : "zoom",
      },
    };
  }

  function inColumns(legend) {
    return narrow() ? { ...legend, entrywidth: 0.5, entrywidthmode: "fraction" } : legend;
  }

  function options(name) {
    return {
      responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", displayModeBar: coarse() ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { filename: name },
    };
  }

  function draw(id, traces, layout) {
    return Plotly.react(element(id), traces, layout, options(id));
  }

  function sortable(table) {
    const body = table.tBodies[0];
    table.querySelectorAll("thead th button").forEach((button) => {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const column = head.cellIndex;
        const numeric = head.classList.contains("n");
        const upwards = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : !numeric;
        const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
        const rows = [...body.rows].map((row, index) => [key(row), index, row]);
        rows.sort(([a, i], [b, j]) => {
          const order = numeric ? (a === "" ? -Infinity : Number(a)) - (b === "" ? -Infinity : Number(b)) || 0 : a.localeCompare(b, "en");
          return (upwards ? order : -order) || i - j;
        });
        table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
        body.append(...rows.map(([, , row]) => row));
      });
    });
  }

  /* Make tables sortable, and draw again for another width, another scheme, and paper, which is white. */
  function follow(drawAll) {
    document.querySelectorAll("table.sortable").forEach(sortable);
    let wasNarrow = narrow();
    window.addEventListener("resize", () => {
      if (narrow() !== wasNarrow) {
        wasNarrow = narrow();
        drawAll();
      }
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    const opened = [];
    window.addEventListener("beforeprint", () => {
      document.documentElement.dataset.printing = "true"; /* paper is light, whatever the screen is */
      document.querySelectorAll("details:not([open])").forEach((each) => { each.open = true; opened.push(each); });
      drawAll();
    });
    window.addEventListener("afterprint", () => {
      delete document.documentElement.dataset.printing;
      opened.splice(0).forEach((each) => { each.open = false; });
      drawAll();
    });
  }

  return { element, narrow, colour, escaped, base, inColumns, draw, follow };
})();
