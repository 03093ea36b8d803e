// Charts: unpack the script that draws (its sha256 stands in the page's policy), then draw every specification.
(() => {
  "use strict";
  const figures = [...document.querySelectorAll("figure.chart")];

  const unpack = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  // Columns, and places in lists of texts, become the rows that Vega reads.
  const rows = ({ columns, texts }) => {
    const fields = Object.keys(columns);
    const count = fields.length ? columns[fields[0]].length : 0;
    const value = (field, i) => (field in texts ? texts[field][columns[field][i]] : columns[field][i]);
    return Array.from({ length: count }, (_, i) => Object.fromEntries(fields.map((field) => [field, value(field, i)])));
  };

  const read = (figure) => {
    const spec = JSON.parse(figure.querySelector("script.spec").textContent);
    if (spec.data.packed) spec.data = { values: rows(spec.data.packed) };
    return spec;
  };

  // The axis of the chart's number, the one with a title, gets another scale wherever a layer uses it.
  const scaled = (spec, type) => {
    const own = structuredClone(spec);
    for (const layer of own.layer) {
      for (const encoding of Object.values(layer.encoding)) {
        if (encoding.scale && encoding.type === "quantitative" && encoding.axis.title) {
          encoding.scale.type = type;
          if (type === "linear") continue;
          delete encoding.scale.zero;
          encoding.axis.title += ", log scale";
        }
      }
    }
    return own;
  };

  const draw = async (figure, spec) => {
    const plot = figure.querySelector(".plot");
    const bind = figure.querySelector(".menus");
    bind.replaceChildren();
    figure.view?.finalize();
    const result = await window.vegaEmbed(plot, spec, {
      ast: true, // an interpreter: no code is made from text, so the policy allows none
      mode: "vega-lite",
      renderer: "svg",
      bind,
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: figure.dataset.name,
      tooltip: { theme: "page" },
    });
    figure.view = result.view;
    figure.classList.add("drawn");
  };

  const show = async (figure) => {
    const spec = read(figure);
    const log = spec.usermeta?.log;
    let type = log?.first ? log.type : "linear";
    if (log) {
      const button = document.createElement("button");
      const name = () => (button.textContent = type === "linear" ? "log scale" : "linear scale");
      name();
      button.className = "scale";
      button.addEventListener("click", async () => {
        type = type === "linear" ? log.type : "linear";
        name();
        await draw(figure, scaled(spec, type));
      });
      figure.querySelector(".controls").append(button);
    }
    await draw(figure, log ? scaled(spec, type) : spec);
  };

  const start = async () => {
    const script = document.createElement("script");
    script.textContent = await unpack(document.getElementById("engine").textContent);
    document.head.append(script);
    for (const figure of figures) await show(figure);
  };

  start().catch((error) => {
    for (const figure of figures.filter((one) => !one.classList.contains("drawn"))) {
      figure.querySelector(".plot").textContent = `This browser cannot draw it (${error.message}); see the figures below.`;
    }
    for (const folded of document.querySelectorAll("details.figures")) folded.open = true;
  });
})();
