"""SVG and PNG of charts, for papers, from the specifications that a page holds.

They are written when they are asked for (``task=charts``): the first costs a second, each a fifth of one, which a sweep
of many jobs would pay for files that nobody opens.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from emo.core.errors import UserError
from emo.report.charts.spec import Spec, unpacked

FOLDER = "charts"  # beside the page
CHART = re.compile(
    r'<figure class="chart" id="[^"]*" data-name="([a-z_]+)">'
    r'.*?<script type="application/json" class="spec">(.*?)</script>',
    re.DOTALL,
)
WIDTH = 720  # pixels of the panel; axes and legend come on top
SCALE = 2.0  # PNG pixels per pixel


def export_page(page: Path) -> list[Path]:
    """Write ``charts/NAME.svg`` and ``charts/NAME.png`` beside a page for each of its charts; returns their paths.

    Menus stand at their first option and nothing is clicked away, as on the page when it is opened.

    Raises:
        UserError: the page has no charts.
    """
    import vl_convert

    charts = CHART.findall(page.read_text(encoding="utf-8"))
    if not charts:
        raise UserError(f"{page}: it has no charts; delete it and type its line again, which writes it anew")
    folder = page.parent / FOLDER
    folder.mkdir(exist_ok=True)
    paths = []
    for name, text in charts:
        svg = vl_convert.vegalite_to_svg(on_paper(unpacked(json.loads(text))))
        pixels: Any = vl_convert.svg_to_png(svg, scale=SCALE)
        for kind, data in (("svg", svg.encode("utf-8")), ("png", pixels)):
            partial = folder / f".{name}.{kind}"
            partial.write_bytes(data)
            paths.append(partial.replace(folder / f"{name}.{kind}"))
    return paths


def on_paper(spec: Spec) -> Spec:
    """Return a specification as its page first draws it, of fixed width, on white; the title says its menus."""
    menus = [param for param in spec["params"] if "bind" in param and param["name"] != "metric"]
    told = ", ".join(f"{param['bind']['name'].strip()}: {param['value']}" for param in menus)
    title = spec["title"] | ({"subtitle": told, "subtitleFontSize": 11, "subtitleColor": "#777777"} if told else {})
    log = spec.get("usermeta", {}).get("log", {})
    layers = [_scaled(layer, log["type"]) for layer in spec["layer"]] if log.get("first") else spec["layer"]
    return spec | {"width": WIDTH, "background": "white", "padding": 8, "title": title, "layer": layers}


def _scaled(layer: Spec, kind: str) -> Spec:
    """Return a layer whose number, the one with a title, has another scale, as the page's script gives it."""
    own = dict(layer["encoding"])
    for channel, given in own.items():
        if "scale" in given and given["type"] == "quantitative" and given["axis"]["title"]:
            scale = {key: value for key, value in given["scale"].items() if key != "zero"} | {"type": kind}
            axis = given["axis"] | {"title": f"{given['axis']['title']}, log scale"}
            own[channel] = given | {"scale": scale, "axis": axis}
    return layer | {"encoding": own}
