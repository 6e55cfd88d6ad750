"""Prompts with their columns and weights, held without one Python object per prompt."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from aria.pool import Pool

CHUNK = 65536
"""Texts whose offsets are held as Python numbers at a time."""
SCALARS = (str, int, float, bool, type(None))


class Texts(Sequence[str]):
    """N texts in one buffer of UTF-8 bytes: text i is ``data[ends[i - 1] : ends[i]]``.

    A list of Python strings is copied page by page into every forked worker, since counting references writes to
    it; these two arrays are not, and they may be memory maps.

    >>> texts = Texts.of(["a cat", "ein Bär"])
    >>> texts[1], len(texts), texts.data.size
    ('ein Bär', 2, 13)
    """

    def __init__(self, data: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> None:
        self.data = data  # (bytes,) uint8
        self.ends = ends  # (N,) int64

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Pack ``texts``, read once."""
        data, ends = bytearray(), array("q")
        for text in texts:
            data += text.encode()
            ends.append(len(data))
        return cls(np.frombuffer(data, np.uint8), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]  # an index beyond the end is refused here, a negative one counted from it
        return bytes(self.data[self.ends[i - 1] if i else 0 : self.ends[i]]).decode()

    def __iter__(self) -> Iterator[str]:
        return (text.decode() for text in self.raw())

    def raw(self) -> Iterator[bytes]:
        """The UTF-8 bytes of each text."""
        view, begin = self.data.data, 0
        for first in range(0, len(self), CHUNK):
            for end in self.ends[first : first + CHUNK].tolist():
                yield bytes(view[begin:end])
                begin = end

    def digest(self) -> str:
        """Equal for equal texts, and in all likelihood only for them."""
        seen = hashlib.sha256(np.ascontiguousarray(self.data).data)
        seen.update(np.ascontiguousarray(self.ends).data)
        return seen.hexdigest()[:16]

    def starts_with(self, first: Texts) -> bool:
        """Whether ``first`` is the beginning of these texts."""
        n, size = len(first), first.data.size
        same_ends = n <= len(self) and np.array_equal(self.ends[:n], first.ends)
        return same_ends and np.array_equal(self.data[:size], first.data)


class Column(Sequence[Any]):
    """N values of which few are distinct, as labels are: ``values[codes[i]]``.

    >>> style = Column.of(["ink", "photo", "ink"])
    >>> style[2], list(style), style.codes.tolist()
    ('ink', ['ink', 'photo', 'ink'], [1, 2, 1])
    """

    def __init__(self, values: Sequence[Any], codes: np.ndarray[Any, Any]) -> None:
        self.values = tuple(values)  # None first
        self.codes = codes  # (N,) int32

    @classmethod
    def of(cls, values: Iterable[Any]) -> Column:
        """Encode ``values``, read once."""
        growing = Growing()
        for row, value in enumerate(values):
            growing.put(row, value)
        return growing.column(len(growing.codes))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self.values[code] for code in self.codes[index]]
        return self.values[self.codes[index]]

    def __iter__(self) -> Iterator[Any]:
        return (self.values[code] for code in self.codes)


class Growing:
    """A column while it is read: one value a row, None in the rows that lack it."""

    def __init__(self) -> None:
        # 1, 1.0 and True are three values although Python calls them equal
        self.known: dict[tuple[type, Any], int] = {(type(None), None): 0}
        self.codes = array("i")
        self.nested = False

    def put(self, row: int, value: Any) -> None:
        self.codes.extend([0] * (row - len(self.codes)))
        if isinstance(value, SCALARS):
            self.codes.append(self.known.setdefault((type(value), value), len(self.known)))
        else:
            self.nested = True

    def column(self, rows: int) -> Column:
        self.codes.extend([0] * (rows - len(self.codes)))
        return Column([value for _, value in self.known], np.frombuffer(self.codes, np.int32))


@dataclass(frozen=True, eq=False)
class Prompts:
    """N prompts in the order of their source.

    >>> prompts = Prompts(Texts.of(["a cat", "a dog"]), {"animal": Column.of(["cat", "dog"])})
    >>> prompts.pool().column("animal")[1]
    'dog'
    """

    texts: Texts
    columns: Mapping[str, Column] = field(default_factory=dict)
    """The other columns of the source, by name."""
    weight: Tensor | None = None
    """(N,) float64 share of each prompt in the target distribution, at any scale."""
    skipped: int = 0
    """Rows left out because their text is empty."""
    left_out: tuple[str, ...] = ()
    """Columns left out because they hold more than text, numbers and nothing."""

    def __len__(self) -> int:
        return len(self.texts)

    def digest(self) -> str:
        """Equal for equal texts, columns and weights, and in all likelihood only for them."""
        seen = hashlib.sha256(self.texts.digest().encode())
        for name, column in sorted(self.columns.items()):
            seen.update(json.dumps([name, column.values]).encode())
            seen.update(np.ascontiguousarray(column.codes).data)
        if self.weight is not None:
            seen.update(b"weight" + self.weight.numpy().tobytes())
        return seen.hexdigest()[:16]

    def pool(self, embeddings: Any = None) -> Pool:
        """These conditions as a pool."""
        return Pool(embeddings=embeddings, columns=self.columns, texts=self.texts, weight=self.weight)

    def with_columns(self, columns: Mapping[str, Sequence[Any]]) -> Prompts:
        """The same prompts with more ``columns``, (N,) values each; one of a name that is there is replaced."""
        return replace(self, columns={**self.columns, **{name: Column.of(x) for name, x in columns.items()}})

    def joined(self, captions: Sequence[str]) -> tuple[Prompts, Tensor]:
        """These prompts followed by the captions that are not among them, and the (M,) prompt of each caption.

        A caption that is new has None in every column and the mean weight.

        >>> prompts, index = Prompts(Texts.of(["a cat", "a dog"])).joined(["a dog", "a fox", "a fox"])
        >>> list(prompts.texts), index.tolist()
        (['a cat', 'a dog', 'a fox'], [1, 2, 2])
        """
        wanted, place = set(captions), dict[str, int]()
        for i, text in enumerate(self.texts) if wanted else ():
            if text in wanted:
                place.setdefault(text, i)
        new = [text for text in dict.fromkeys(captions) if text not in place]
        place.update((text, len(self) + i) for i, text in enumerate(new))
        index = torch.tensor([place[text] for text in captions], dtype=torch.int64)
        if not new:
            return self, index
        more = Texts.of(new)
        texts = Texts(
            np.concatenate([self.texts.data, more.data]),
            np.concatenate([self.texts.ends, more.ends + self.texts.data.size]),
        )
        columns = {name: Column.of([*column, *[None] * len(new)]) for name, column in self.columns.items()}
        weight = None if self.weight is None else torch.cat([self.weight, self.weight.mean().expand(len(new))])
        return Prompts(texts, columns, weight, self.skipped, self.left_out), index
