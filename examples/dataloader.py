"""ARIA with a ``torch.utils.data.DataLoader``: the sampler selects the prompts that the loader reads.

Regions are clusters of the prompts' embeddings. The sampler's state is saved as safetensors and loaded again.
"""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

import aria

torch.manual_seed(0)
torch.set_num_threads(1)  # the networks are too small for several threads
prompts = [f"a {size} {animal} {place}" for size in ("tiny", "large") for animal in ("cat", "dog", "owl", "eel")
           for place in ("at home", "at sea", "in space")]  # fmt: skip
embeddings = torch.randn(len(prompts), 16)


class Prompts(Dataset[tuple[str, torch.Tensor]]):
    """One prompt and its embedding per index."""

    def __len__(self) -> int:
        return len(prompts)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        return prompts[index], embeddings[index]


def main() -> None:
    """Train for 50 steps, save, resume, train for 50 more."""
    teacher, student = torch.nn.Linear(16, 8).requires_grad_(False), torch.nn.Linear(16, 8)
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    pool = aria.Pool(embeddings=embeddings, texts=prompts)
    partition = aria.registry.partitioner("kmeans(regions=6)").fit(pool)
    print(aria.partitioners.describe_table(aria.partitioners.describe(partition, pool, nearest=2)))

    def train(sampler: aria.Sampler, steps: int) -> None:
        batches = aria.DrawBatches(sampler, batch_size=12, steps=steps)
        for (_, condition), draw in batches.paired(DataLoader(Prompts(), batch_sampler=batches)):
            loss = (student(condition) - teacher(condition)).square().mean(1)
            sampler.observe(draw, loss)
            optimizer.zero_grad()
            (draw.weight * loss).mean().backward()
            optimizer.step()

    sampler = aria.Sampler(partition, tracker="ema(rate=0.2)", allocator="softmax(temperature=0.5)")
    train(sampler, steps=50)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sampler.safetensors"
        save_file(sampler.state_dict(), file)
        resumed = aria.Sampler(partition, tracker="ema(rate=0.2)", allocator="softmax(temperature=0.5)")
        resumed.load_state_dict(load_file(file))
    train(resumed, steps=50)
    print(f"resumed at step 50, now at {resumed.step}; shares {[round(q, 2) for q in resumed.probs().tolist()]}")


if __name__ == "__main__":
    main()
