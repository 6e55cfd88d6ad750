"""The cached conditions, as a training loop reads them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aria.distill.data.encode import CUT, FEATURES, NULL, PROMPTS, TEXT, conditions_fingerprint
from aria.distill.data.keys import hashes, numbered
from aria.distill.data.prompts import Prompts, Texts
from aria.distill.data.saved_prompts import load_prompts
from aria.distill.data.store import Store, refuse_other
from aria.distill.data.table import DEVICE_BUDGET, Pending, Table
from aria.distill.models.denoisers import Condition, Denoiser, of
from aria.pool import Pool
from aria.tensor_files import map_tensors

SOME = 16
"""Prompts that are compared with their rows when a cache is opened."""


class Conditions:
    """The conditions in a folder that :func:`build_conditions` wrote; condition i is prompt i.

    Equal prompts share a row. With ``pipeline``, a folder made with another encoder is refused by what differs.
    Where the rows are kept is chosen by :class:`Table`, or given by ``residency``.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pipeline: Any = None,
        denoiser: Denoiser | None = None,
        device: torch.device | str = "cpu",
        residency: str | None = None,
        device_budget: int = DEVICE_BUDGET,
        host_budget: int | None = None,
    ) -> None:
        self.folder, self.device = Path(folder), torch.device(device)
        self.store = Store(folder)
        if pipeline is not None:
            self.check(pipeline, denoiser or of(pipeline))
        self.prompts, self._row = load_prompts(self.folder / PROMPTS)
        _check_rows(self.folder, self.prompts, self._row, self.store)
        null, _ = map_tensors(self.folder / NULL)
        self._null = {name: x.to(self.device, copy=True) for name, x in null.items()}
        names = [name for name in self.store.names if name not in (FEATURES, TEXT, CUT)]
        if set(names) != set(null):
            raise ValueError(f"{self.folder}: its null condition has {sorted(null)}, its conditions have {names}")
        self.table = Table(
            self.store,
            names,
            row=self._row,
            device=device,
            residency=residency,
            device_budget=device_budget,
            host_budget=host_budget,
        )
        self.residency = self.table.residency

    def check(self, pipeline: Any, denoiser: Denoiser) -> None:
        """Refuse an encoder other than the one that made these conditions, by what differs."""
        dtype = getattr(torch, self.store.fingerprint["dtype"])
        refuse_other(self.folder, self.store.fingerprint, conditions_fingerprint(pipeline, denoiser, dtype))

    def __len__(self) -> int:
        return len(self.prompts)

    def gather(self, index: Tensor) -> Condition:
        """The tensors (B, …) of conditions ``index`` (B,) on the device."""
        return self.table.gather(index)

    def prefetch(self, index: Tensor) -> Pending:
        """The same, read in the background: ``prefetch(index).result()``."""
        return self.table.prefetch(index)

    def null(self, n: int) -> Condition:
        """The null condition ``n`` times, without copies, exactly as the pipeline uses it for guidance."""
        return {name: x.expand(n, *x.shape[1:]) for name, x in self._null.items()}

    def used(self) -> int:
        """Rows of the store that a prompt is encoded in: as many as there are distinct texts."""
        return len(torch.unique(self._row))

    def cut(self) -> Tensor:
        """(N,) bool: whether each prompt was longer than the text encoder takes."""
        return self.store.gather(self._row, [CUT])[CUT]

    @cached_property
    def hashes(self) -> Tensor:
        """(N, 2) int64: the hash of each prompt."""
        return hashes(self.prompts.texts)

    def keys(self) -> Tensor:
        """(N, 3) int64: the hash of each prompt and how many equal ones come before it, by which images find theirs."""
        return numbered(self.hashes)

    def pool(self) -> Pool:
        """These conditions for a partitioner: features on the disk, columns, texts and weights."""
        return self.prompts.pool(Features(self.store, self._row))

    def close(self) -> None:
        """Stop reading in the background."""
        self.table.close()


class Features:
    """(N, D) float32: one vector a condition, read from a store by rows as from a numpy array."""

    ndim = 2

    def __init__(self, store: Store, row: Tensor) -> None:
        self._store, self._row = store, row
        self.shape = (len(row), store.names[FEATURES][1][0])
        self.dtype = np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray[Any, Any]:
        wanted = np.asarray(self._row.numpy()[rows])
        found = self._store.gather(torch.from_numpy(wanted.reshape(-1)), [FEATURES])[FEATURES].numpy()
        return found.reshape(*wanted.shape, self.shape[1])


def _check_rows(folder: Path, prompts: Prompts, row: Tensor, store: Store) -> None:
    """Refuse rows that the store does not have, or that hold other texts; a few prompts stand for all."""
    if TEXT not in store.names:
        raise ValueError(f"{folder} was cached by an earlier version of ARIA: use another folder")
    if len(row) != len(prompts) or not 0 <= int(row.min()) <= int(row.max()) < len(store):
        raise ValueError(f"{folder / PROMPTS} does not fit the {len(store)} rows beside it: use another folder")
    some = torch.linspace(0, len(prompts) - 1, min(len(prompts), SOME)).long()
    expected = hashes(Texts.of([prompts.texts[i] for i in some.tolist()]))
    if not torch.equal(store.gather(row[some], [TEXT])[TEXT], expected):
        raise ValueError(f"{folder / PROMPTS} holds other texts than the rows beside it: use another folder")
