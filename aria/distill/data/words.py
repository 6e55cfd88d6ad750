"""The words that distinguish one group of texts from all of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W\d_]{2,}")


def typical_words(texts: Iterable[str], group: Sequence[int], groups: int, most: int = 5) -> list[list[str]]:
    r"""For each group its most typical words, the most typical first.

    With :math:`f_g` and :math:`f` the share of the group's and of all texts that contain a word, words are ranked by
    :math:`f_g\log(f_g/f)`: frequent here and rarer elsewhere. Those that are not more frequent here are left out. The
    texts are read once; memory is one number for each word of each group.

    >>> typical_words(["a red cat", "a cat in ink", "a red dog"], [0, 0, 1], 2)
    [['cat', 'in', 'ink'], ['dog', 'red']]
    """
    inside: list[Counter[str]] = [Counter() for _ in range(groups)]
    sizes, everywhere, total = [0] * groups, Counter[str](), 0
    for text, place in zip(texts, group, strict=True):
        words = set(_WORD.findall(text.lower()))
        inside[place].update(words)
        everywhere.update(words)
        sizes[place] += 1
        total += 1
    found = []
    for counts, size in zip(inside, sizes, strict=True):
        score = {w: n / size * math.log(n / size / (everywhere[w] / total)) for w, n in counts.items()}
        found.append(sorted((w for w in score if score[w] > 0), key=lambda w: (-score[w], w))[:most])
    return found
