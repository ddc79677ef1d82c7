"""Colours as eyes see them: CIE L*a*b* and the difference ΔE2000."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(1)
"""D65, as the matrix of IEC 61966-2-1 makes of sRGB's white."""
_EPSILON, _KAPPA = (6 / 29) ** 3, (29 / 3) ** 3
_SEVEN = 25.0**7


def lab_of(rgb: npt.ArrayLike) -> Floats:
    """sRGB-coded (…, 3) in [0, 1] → L*a*b* (…, 3) under D65 (CIE 15:2004)."""
    coded = np.asarray(rgb, np.float64)
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    share = linear @ _TO_XYZ.T / _WHITE
    f = np.where(share > _EPSILON, np.cbrt(share), (_KAPPA * share + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def delta_e_2000(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """CIEDE2000 (…) of L*a*b* colours (…, 3), all weights 1; equations 2 to 22 of Sharma, Wu and Dalal 2005."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    l1, a1, b1 = (first[..., n] for n in range(3))
    l2, a2, b2 = (second[..., n] for n in range(3))
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean_c**7 / (mean_c**7 + _SEVEN)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    grey = c1 * c2 == 0
    turn = h2 - h1
    turn = np.where(grey, 0.0, turn - 360 * (turn > 180) + 360 * (turn < -180))
    dl, dc, dh = l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    ml, mc, total = (l1 + l2) / 2, (c1 + c2) / 2, h1 + h2
    apart = np.abs(h1 - h2) > 180
    mh = np.where(grey, total, np.where(apart, total + np.where(total < 360, 360, -360), total) / 2)
    t = (
        1
        - 0.17 * np.cos(np.radians(mh - 30))
        + 0.24 * np.cos(np.radians(2 * mh))
        + 0.32 * np.cos(np.radians(3 * mh + 6))
        - 0.20 * np.cos(np.radians(4 * mh - 63))
    )
    sl = 1 + 0.015 * (ml - 50) ** 2 / np.sqrt(20 + (ml - 50) ** 2)
    sc, sh = 1 + 0.045 * mc, 1 + 0.015 * mc * t
    turned = np.sin(np.radians(60 * np.exp(-(((mh - 275) / 25) ** 2))))
    rt = -2 * np.sqrt(mc**7 / (mc**7 + _SEVEN)) * turned
    light, c, h = dl / sl, dc / sc, dh / sh
    return np.asarray(np.sqrt(np.maximum(light**2 + c**2 + h**2 + rt * c * h, 0)), np.float64)
