"""The paper's own tables 1 and 3 (DreamMix), to read orderings from: other data, other encoders, another model."""

from __future__ import annotations

from collections.abc import Mapping

Numbers = tuple[float, ...]
COLUMNS = ("CLIP-T", "CLIP-I", "DINO", "FID")
METHODS: Mapping[str, Mapping[str, Numbers]] = {
    "identity": {
        "Paint-by-Example": (0.238, 0.541, 0.582, 44.6),
        "MimicBrush": (0.256, 0.614, 0.631, 47.0),
        "AnyDoor": (0.284, 0.688, 0.711, 53.7),
        "IP-Adapter": (0.268, 0.633, 0.633, 45.3),
        "LAR-Gen": (0.269, 0.662, 0.676, 48.7),
        "TIGIC": (0.262, 0.533, 0.584, 45.2),
        "DreamBooth": (0.253, 0.644, 0.628, 40.5),
        "DreamMix": (0.285, 0.728, 0.712, 42.9),
        "real pictures": (0.315, 0.883, 0.865, 35.9),
    },
    "editing": {
        "IP-Adapter": (0.236, 0.611, 0.629, 47.5),
        "LAR-Gen": (0.257, 0.656, 0.668, 49.6),
        "TIGIC": (0.236, 0.479, 0.548, 47.3),
        "DreamBooth": (0.235, 0.601, 0.612, 41.7),
        "DreamMix": (0.289, 0.674, 0.695, 43.9),
    },
}
"""Table 1: task -> method -> CLIP-T, CLIP-I, DINO, FID."""
ABLATION: Mapping[str, Mapping[str, Numbers]] = {
    "identity": {
        "DreamBooth": (0.253, 0.644, 0.628),
        "+ DIF": (0.291, 0.723, 0.717),
        "+ TAS": (0.290, 0.728, 0.715),
        "+ ADM": (0.285, 0.728, 0.712),
    },
    "editing": {
        "DreamBooth": (0.235, 0.601, 0.612),
        "+ DIF": (0.265, 0.696, 0.708),
        "+ TAS": (0.275, 0.685, 0.700),
        "+ ADM": (0.289, 0.674, 0.695),
    },
}
"""Table 3: task -> what is added -> CLIP-T, CLIP-I, DINO."""
