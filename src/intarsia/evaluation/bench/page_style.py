"""The look of the report: one style sheet, light and dark, on a screen and on paper."""

from __future__ import annotations

from intarsia.evaluation.charts import COLOURS, GRID, INK, PAPER


def _rgb(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


# Blue and red, then purple and green: told apart by their marks as well.
_STYLES = (COLOURS[1], COLOURS[0], COLOURS[3], COLOURS[2])
_DARK_STYLES = ("#7db2f0", "#f08a78", "#c79be0", "#86cf9a")
_LIGHT = {"paper": _rgb(PAPER), "ink": _rgb(INK), "faint": "#66666c", "grid": _rgb(GRID), "sheet": "#ffffff"}
_DARK = {"paper": "#191a1c", "ink": "#e9e8e4", "faint": "#a2a2a8", "grid": "#3a3b3f", "sheet": "#212226"}
_LIGHT |= {f"s{number}": _rgb(colour) for number, colour in enumerate(_STYLES)}
_DARK |= {f"s{number}": colour for number, colour in enumerate(_DARK_STYLES)}


def _variables(values: dict[str, str]) -> str:
    return "".join(f"--{name}: {value}; " for name, value in values.items())


STYLE = f"""
:root {{ {_variables(_LIGHT)}color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(_DARK)}}} }}
@media print {{ :root {{ {_variables(_LIGHT)}--paper: #ffffff; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 76rem; padding: 2.5rem 1.5rem 5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }}
h1 {{ font-size: 2rem; font-weight: 650; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }}
h2 {{ font-size: 1.3rem; font-weight: 650; margin: 3.2rem 0 .5rem; padding-top: .9rem;
  border-top: 1px solid var(--grid); }}
h3 {{ font-size: 1.02rem; font-weight: 650; margin: 1.8rem 0 .3rem; }}
p, ul, dl {{ max-width: 48rem; }}
p {{ margin: .4rem 0 .8rem; }}
.lead {{ font-size: 1.08rem; }}
.note, figcaption, small {{ color: var(--faint); font-size: .86rem; }}
nav {{ margin: 1rem 0 0; font-size: .9rem; }}
nav a {{ margin-right: 1.1rem; white-space: nowrap; }}
a {{ color: var(--s0); text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
code {{ font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }}
pre {{ background: var(--sheet); border: 1px solid var(--grid); border-radius: 4px; padding: .8rem 1rem;
  overflow-x: auto; font: .82rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .9rem; margin: 1rem 0; }}
dt {{ color: var(--faint); }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; margin: .6rem 0 1rem; }}
table {{ border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; background: var(--sheet);
  min-width: 40rem; }}
th, td {{ padding: .38rem .8rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--grid); }}
th {{ font-weight: 600; vertical-align: bottom; white-space: nowrap; }}
thead th {{ border-bottom: 1.5px solid var(--ink); }}
th:first-child, td:first-child, .words {{ text-align: left; }}
td.words, tbody th {{ white-space: normal; font-weight: 400; max-width: 30rem; }}
tbody th {{ min-width: 9rem; }}
tbody.group th[colspan] {{ font-weight: 650; padding-top: 1rem; background: var(--paper);
  border-bottom-color: var(--ink); }}
tr.ceiling > * {{ color: var(--faint); border-top: 1px dashed var(--faint); }}
td b {{ font-weight: 700; }}
td small {{ display: block; white-space: nowrap; font-size: .76rem; }}
.verdict {{ white-space: nowrap; font-weight: 600; text-align: left; }}
.verdict small {{ white-space: normal; font-weight: 400; min-width: 14rem; }}
.holds {{ color: var(--s0); }} .fails {{ color: var(--s1); }} .open {{ color: var(--faint); }}
figure {{ margin: 0 0 1.6rem; }}
.panels {{ display: flex; flex-wrap: wrap; gap: .8rem; }}
.panels .chart {{ width: 22rem; max-width: 100%; }}
.plane .chart {{ width: 46rem; max-width: 100%; }}
.chart {{ display: block; height: auto; background: var(--sheet); border: 1px solid var(--grid); border-radius: 4px;
  font-family: inherit; }}
.chart text {{ font-size: 12px; fill: var(--ink); }}
.chart .tick {{ fill: var(--faint); font-size: 11px; }}
.chart .end {{ text-anchor: end; }} .chart .middle {{ text-anchor: middle; }}
.chart .label {{ paint-order: stroke; stroke: var(--sheet); stroke-width: 3px; font-size: 11.5px; }}
.chart .label.faint {{ fill: var(--faint); }}
.grid {{ stroke: var(--grid); }} .axis {{ stroke: var(--faint); }}
.path {{ fill: none; stroke-width: 2; }} .whisker {{ stroke-width: 1.3; opacity: .6; }}
.path.s0, .whisker.s0 {{ stroke: var(--s0); }} .path.s1, .whisker.s1 {{ stroke: var(--s1); stroke-dasharray: 6 3; }}
.path.s2, .whisker.s2 {{ stroke: var(--s2); stroke-dasharray: 2 3; }} .path.s3, .whisker.s3 {{ stroke: var(--s3); }}
.whisker {{ stroke-dasharray: none !important; }} .whisker.hollow {{ stroke: var(--faint); }}
.mark {{ stroke: var(--sheet); stroke-width: 1.2; }} .mark.s0 {{ fill: var(--s0); }} .mark.s1 {{ fill: var(--s1); }}
.mark.s2 {{ fill: var(--s2); }} .mark.s3 {{ fill: var(--s3); }}
.mark.hollow {{ fill: var(--sheet); stroke: var(--faint); stroke-width: 1.6; }}
.chart .label.s0 {{ fill: var(--s0); }} .chart .label.s1 {{ fill: var(--s1); }}
.legend span {{ margin-right: 1.4rem; font-size: .88rem; }} .key {{ width: 30px; height: 16px; vertical-align: -3px; }}
.bar {{ display: block; width: 80px; height: 10px; margin: .15rem 0 0 auto; }}
.bar .span {{ stroke: var(--s0); stroke-width: 2; opacity: .55; }} .bar .dot {{ fill: var(--s0); }}
.bar .zero {{ stroke: var(--faint); }}
.ceiling .bar .span {{ stroke: var(--faint); }} .ceiling .bar .dot {{ fill: var(--faint); }}
.sheet {{ overflow-x: auto; }}
.sheet table {{ background: none; min-width: 0; }}
.sheet th, .sheet td {{ border: 0; padding: .2rem .35rem; text-align: left; font-size: .78rem; }}
.sheet th {{ white-space: normal; font-weight: 600; }}
.sheet img, .sheet .none {{ display: block; width: 144px; height: 144px; }}
.sheet .none {{ border: 1px dashed var(--grid); color: var(--faint); text-align: center; line-height: 144px; }}
.sheet td.caption {{ padding: .1rem .35rem 1rem; color: var(--faint); }}
details {{ margin: .6rem 0; }} summary {{ cursor: pointer; color: var(--faint); }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 10pt; }}
  nav {{ display: none; }} .scroll, .sheet {{ overflow: visible; }}
  table {{ font-size: 7.5pt; min-width: 0; }} th, td {{ padding: .15rem .35rem; }}
  tr, figure, .chart {{ break-inside: avoid; }} h2, h3 {{ break-after: avoid; }}
  .sheet img, .sheet .none {{ width: 62px; height: 62px; line-height: 62px; }}
}}
"""
