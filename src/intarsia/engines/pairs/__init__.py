"""The engine of Paint by Inpaint: photos with instance masks in, (source, instruction) -> target pairs out. See
docs/pairs.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.lazy import lazy_names

if TYPE_CHECKING:
    from intarsia.engines.pairs.annotations import list_instances
    from intarsia.engines.pairs.calibration import Calibration, CalibrationCurve, calibrate, read_labels
    from intarsia.engines.pairs.curves_picture import draw_calibration
    from intarsia.engines.pairs.engine import (
        Pair,
        PairReport,
        PairTools,
        is_run,
        pair_of,
        pair_run,
        pair_steps,
        pair_thresholds,
        plan_pairs,
        read_pairs,
        recut_pairs,
        run_pairs,
    )
    from intarsia.engines.pairs.errors import AnnotationsError, InstanceError
    from intarsia.engines.pairs.export import write_parquet
    from intarsia.engines.pairs.folders import has_truth
    from intarsia.engines.pairs.options import PairOptions
    from intarsia.engines.pairs.probe import ProbeReport, edit_detection_auc, probe_edits
    from intarsia.engines.pairs.removers import (
        RemovalTask,
        Remover,
        RemoverOption,
        StudioRemover,
        TruthRemover,
        removed_path,
    )
    from intarsia.engines.pairs.run_lengths import mask_of_polygons
    from intarsia.engines.pairs.survival_rates import Survival, survival

_LAZY = {
    "AnnotationsError": "errors",
    "Calibration": "calibration",
    "CalibrationCurve": "calibration",
    "InstanceError": "errors",
    "Pair": "engine",
    "PairOptions": "options",
    "PairReport": "engine",
    "PairTools": "engine",
    "ProbeReport": "probe",
    "RemovalTask": "removers",
    "Remover": "removers",
    "RemoverOption": "removers",
    "StudioRemover": "removers",
    "Survival": "survival_rates",
    "TruthRemover": "removers",
    "before_removal": "engine",
    "calibrate": "calibration",
    "draw_calibration": "curves_picture",
    "edit_detection_auc": "probe",
    "has_truth": "folders",
    "is_run": "engine",
    "list_instances": "annotations",
    "mask_of_polygons": "run_lengths",
    "pair_of": "engine",
    "pair_run": "engine",
    "pair_steps": "engine",
    "pair_thresholds": "engine",
    "plan_pairs": "engine",
    "probe_edits": "probe",
    "read_labels": "calibration",
    "read_pairs": "engine",
    "recut_pairs": "engine",
    "removed_path": "removers",
    "run_pairs": "engine",
    "survival": "survival_rates",
    "write_parquet": "export",
}

__all__ = [
    "AnnotationsError",
    "Calibration",
    "CalibrationCurve",
    "InstanceError",
    "Pair",
    "PairOptions",
    "PairReport",
    "PairTools",
    "ProbeReport",
    "RemovalTask",
    "Remover",
    "RemoverOption",
    "StudioRemover",
    "Survival",
    "TruthRemover",
    "before_removal",
    "calibrate",
    "draw_calibration",
    "edit_detection_auc",
    "has_truth",
    "is_run",
    "list_instances",
    "mask_of_polygons",
    "pair_of",
    "pair_run",
    "pair_steps",
    "pair_thresholds",
    "plan_pairs",
    "probe_edits",
    "read_labels",
    "read_pairs",
    "recut_pairs",
    "removed_path",
    "run_pairs",
    "survival",
    "write_parquet",
]

__getattr__ = lazy_names(__name__, _LAZY)
