"""ARIA in a plain PyTorch training loop: three lines create a sampler, two use it.

A student learns to copy a teacher whose outputs are harder to learn for some prompts than for others.
"""

import torch

import aria

torch.manual_seed(0)
torch.set_num_threads(1)  # the networks are too small for several threads
prompts = [f"a {colour} {animal}" for animal in ("cat", "dog", "axolotl") for colour in ("red", "green", "blue")]
embeddings = torch.randn(len(prompts), 16)
animals = [prompt.split()[-1] for prompt in prompts]
teacher = lambda x: torch.sin(3 * x[:, :8]) * (1 + 4 * (x[:, 8:] > 1))  # noqa: E731  # any frozen module
student = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
optimizer = torch.optim.Adam(student.parameters(), 3e-3)

pool = aria.Pool(embeddings=embeddings, texts=prompts, columns={"animal": animals})
partition = aria.partitioners.Labels("animal").fit(pool)
sampler = aria.Sampler(partition, tracker="bank", allocator="proportional", seed=0)

for _ in range(300):
    draw = sampler.draw(64)  # the conditions of this step
    condition = embeddings[draw.index] + 0.1 * torch.randn(64, 16)
    loss = (student(condition) - teacher(condition)).square().mean(1)  # (B,) one discrepancy per sample
    sampler.observe(draw, loss)  # updates the tracker
    optimizer.zero_grad()
    (draw.weight * loss).mean().backward()
    optimizer.step()

for region, (name, share) in enumerate(zip(sorted(set(animals)), sampler.probs().tolist(), strict=True)):
    print(f"{name:8s} discrepancy {sampler.estimate().value[region]:.3f}  share of the draws {share:.2f}")
