"""What the report's page says in sentences: what was measured, how to read it, and how to measure it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from intarsia.evaluation.bench.cells import FEWEST_FOR_FRECHET, FEWEST_SUBJECTS
from intarsia.evaluation.bench.measures import MEASURES
from intarsia.evaluation.bench.orderings import FEWEST_ROWS, Finding
from intarsia.evaluation.bench.page_parts import json_html
from intarsia.evaluation.bench.provenance import UNKNOWN, commit_text
from intarsia.evaluation.bench.tables import Table


def summary_html(about: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """The lead: what was compared, and how many orderings hold of those whose measure says anything."""
    counted = [one for one in findings if not one.caveat and one.verdict != "not measured"]
    counts, aside = Counter(one.verdict for one in counted), sum(1 for one in findings if one.caveat and one.difference)
    margins = sum(1 for one in counted if one.verdict == "holds" and one.ordering.margin is not None)
    lenient = f" ({margins} of them within what may be lost, a margin that stands beside them)" if margins else ""
    told = (
        f"Of {len(counted)} orderings that could be asked, {counts['holds']} hold{lenient}, "
        f"{counts['does not hold']} do not, and {counts['not clear']} are not clear."
        if counted
        else "None of the orderings could be asked: their methods or metrics are not here."
    )
    if aside:
        told += f" {aside} more, of CLIP-T on identity rows, are not counted: their note says why."
    return (
        f"Methods that paint a given subject into a masked place of a scene, on {about['rows']} rows of "
        f"{about['subjects']} subjects. A row is a scene, a mask, a subject, a prompt and a seed; its task is to keep "
        f"the subject as it is (identity), or changed as the words say (editing). {told}"
    )


def facts_html(about: Mapping[str, Any]) -> str:
    """Weights, commit, manifest, seeds, encoders."""
    seeds = about["seeds"]
    facts = {
        "model": about["model"],
        "weights": about["model_hash"],
        "commit": commit_text(about["commits"]),
        "manifest": about["manifest_sha256"],
        "seeds": f"{seeds['least']} to {seeds['most']}: {seeds['distinct']}, one of each row" if seeds else None,
        "encoders": about["encoders"],
        "intervals": f"95 %, {about['draws']} resamples with seed {about['bootstrap_seed']}",
    }
    listed = "".join(f"<dt>{key}</dt><dd>{escape(str(value or UNKNOWN))}</dd>" for key, value in facts.items())
    return f"<dl>{listed}</dl>"


def reading_html(about: Mapping[str, Any]) -> str:
    """What a cell is, and on Tabletop at what scale it was measured."""
    scale = (
        "<p>On the scale of Tabletop: a scene has 3 times the miniature's native side, so the global stage of "
        "<code>paper</code> works at a third of the scene's resolution, where an object of 1/4 of the side has 4x4 "
        "latent cells; with SDXL at 1024 px it has 32x32. The gap between <code>paper</code>'s family and "
        "<code>default</code> is therefore expected to be larger here than it must be with SDXL. That is an "
        "expectation: it was not measured.</p>"
        if about["benchmark"] == "tabletop"
        else ""
    )
    return (
        "<p>A cell is the mean over n rows, under it its 95 % interval, also drawn as a bar; bars of a column and "
        "group share a scale. Bold is the best mean, whether or not another is clearly worse: for that see the "
        "orderings.</p><p>Rows of one subject are not independent, so whole subjects are drawn by the bootstrap, all "
        "rows of one together; of few subjects it is too narrow (of 10 it covers about 90 %, of 30 about 93 %). With "
        "one subject its rows are drawn, which says nothing about other subjects. Where a judge says the same of all "
        "rows, the interval is Wilson's, of as many tries as there are subjects; where another number is the same on "
        f"all rows, there is none. KID has {about['draws_kid']} resamples, moved to lie around its value, since "
        "repeated subjects make pairs of their own; a reference of true renders is resampled with the same subjects, "
        f"one of other pictures stays as it is. FID is shown from {FEWEST_FOR_FRECHET:,} pictures on; its interval is "
        f"the value ± 1.96 standard deviations of {about['draws_fid']} resamples.</p>{scale}"
    )


def columns_html(tables: Sequence[Table]) -> str:
    """What the columns are, folded away."""
    used = {metric for table in tables for metric in table.shown()}
    told = "".join(
        f"<dt>{escape(one.title)}</dt><dd>{escape(one.what)}</dd>" for key, one in MEASURES.items() if key in used
    )
    return f"<details><summary>What the columns are</summary><dl>{told}</dl></details>" if told else ""


def verdicts_html() -> str:
    """The rule of verdicts."""
    return (
        "<p>The mean difference of two methods over the rows that both have, with its interval from the same "
        "bootstrap. An ordering holds where the whole interval lies above 0 (above minus what may be lost, where that "
        "is given), does not hold where all of it lies below, and is not clear between; nor is it with fewer than "
        f"{FEWEST_ROWS} rows or {FEWEST_SUBJECTS} subjects, or where no row differs. A judge's answers that differ "
        "alike on all rows get an interval by the rule of three on the number of subjects. Each is asked on its own: "
        "among many, one in forty true ties would seem to hold by chance.</p>"
    )


def repeat_html(about: Mapping[str, Any]) -> str:
    """Commands, settings, versions."""
    return (
        "<p>Building is deterministic: the same settings give a manifest of the same hash. Each row has its seed in "
        "the manifest; scores can be made again without painting. BENCHMARK and RESULTS are folders; other words in "
        f"capitals are files that the report does not know.</p><pre>{escape(str(about['commands']))}</pre>"
        + json_html("Settings of the benchmark", about["settings"])
        + json_html("Methods and their settings", about["methods"])
        + json_html("Budget of learning that differs from the presets'", about["budget"])
        + json_html("Versions", about["versions"])
        + json_html("Encoders and their hashes", about["encoders_of"])
    )


def beside_html(about: Mapping[str, Any]) -> str:
    """Why no number can be set beside a published one."""
    own = about["encoders"] == "tabletop"
    ours = (
        "Ours are of rendered toys, painted by a small model, and measured with encoders that were trained on such "
        "pictures"
        if own
        else "Ours are of another choice of pictures, masks and prompts, and of the encoders named above"
    )
    return (
        f"<p>{ours}. The paper's are of 30 DreamBooth subjects in COCO scenes, painted by SDXL; it tells neither its "
        "encoders' variants, nor whether crops or whole pictures were measured, nor seeds. So no number of ours can be "
        "set beside one of theirs; what can be compared is which method is above which.</p>"
    )
