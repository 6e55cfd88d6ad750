"""The cached conditions: what a training loop asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aria.distill.data.encode import FEATURES, NULL, PROMPTS, ROWS, conditions_fingerprint
from aria.distill.data.saved_prompts import load_prompts
from aria.distill.data.store import Store, refuse_other
from aria.distill.data.table import DEVICE_BUDGET, Pending, Table
from aria.distill.data.tensor_files import map_tensors
from aria.distill.models.denoisers import Condition, Denoiser, of
from aria.pool import Pool


class Conditions:
    """The conditions in a folder that :func:`build_conditions` wrote; condition i is prompt i.

    Equal prompts share a row. With ``pipeline``, a folder made with another encoder is refused by what differs.
    Where the rows are kept is :class:`Table`'s choice, or yours with ``residency``.
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
        self.prompts = load_prompts(self.folder / PROMPTS)
        null, _ = map_tensors(self.folder / NULL)
        self._null = {name: x.to(self.device, copy=True) for name, x in null.items()}
        names = [name for name in self.store.names if name != FEATURES]
        if set(names) != set(null):
            raise ValueError(f"{self.folder}: its null condition has {sorted(null)}, its conditions have {names}")
        rows, _ = map_tensors(self.folder / ROWS)
        self._row = _checked(self.folder, rows, len(self.prompts), len(self.store))
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
        """The same, on its way: ``prefetch(index).result()``."""
        return self.table.prefetch(index)

    def null(self, n: int) -> Condition:
        """The null condition ``n`` times, without copies, exactly as the pipeline guides with it."""
        return {name: x.expand(n, *x.shape[1:]) for name, x in self._null.items()}

    def pool(self) -> Pool:
        """These conditions for a partitioner: features on the disk, columns, texts and weights."""
        return self.prompts.pool(Features(self.store, self._row))

    def close(self) -> None:
        """End background reading."""
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


def _checked(folder: Path, rows: dict[str, Tensor], prompts: int, stored: int) -> Tensor:
    """(N,) the row of each prompt, refused if it is not of these prompts and this store."""
    row = rows.get("row", torch.empty(0, dtype=torch.int32))
    if len(row) != prompts or not 0 <= int(row.min()) <= int(row.max()) < stored:
        raise ValueError(f"{folder / ROWS} does not fit {prompts} prompts in {stored} rows: cache them again")
    return row
