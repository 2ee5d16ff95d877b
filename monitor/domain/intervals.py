"""How sure one can be of a proportion: Wilson's score interval (E. B. Wilson, JASA 22, 1927)."""

import math

Z95 = 1.959963984540054
"""Two-sided 95 %, in standard deviations."""


def wilson(hits: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of ``hits`` of ``n`` (> 0); within 0..1.

    >>> [round(bound, 4) for bound in wilson(80, 100)]
    [0.7112, 0.8666]
    """
    p, z2 = hits / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
