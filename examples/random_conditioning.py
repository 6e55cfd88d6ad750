"""Random conditioning with ARIA: some samples keep their own condition, the others get one from the sampler.

There are few images, each with its own caption, and a pool with many more prompts. With a probability that grows with
the noise level, the caption of a noised image is replaced by a prompt from the pool. Regions are clusters of prompts
times bins of timesteps, so the sampler draws both the prompt and the timestep. Every sample is observed: replaced ones
in the drawn region, the others in the region of their own caption.
"""

import torch

import aria

torch.manual_seed(0)
torch.set_num_threads(1)  # the networks are too small for several threads
PROMPTS, IMAGES, DIM, STEPS, BATCH, T = 400, 40, 16, 200, 64, 1000

embeddings = torch.randn(8, DIM).repeat_interleave(PROMPTS // 8, 0) + 0.3 * torch.randn(PROMPTS, DIM)
images = torch.randn(IMAGES, DIM)  # image i has prompt i as its caption
pool = aria.Pool(embeddings=embeddings)
partition = aria.registry.partitioner(f"product(kmeans(regions=8), bins('timestep', 0, {T}, 5))").fit(pool)
sampler = aria.Sampler(partition, tracker="bank", allocator="proportional", timesteps=T, seed=0)

teacher = torch.nn.Sequential(
    torch.nn.Linear(2 * DIM + 1, 64), torch.nn.SiLU(), torch.nn.Linear(64, DIM)
).requires_grad_(False)
student = torch.nn.Sequential(torch.nn.Linear(2 * DIM + 1, 24), torch.nn.SiLU(), torch.nn.Linear(24, DIM))
optimizer = torch.optim.Adam(student.parameters(), 3e-3)

for _ in range(STEPS):
    draw = sampler.draw(BATCH)
    timestep = draw.coords["timestep"]  # drawn together with the prompt
    own = torch.randint(0, IMAGES, (BATCH,))  # the image of each sample, and so its own prompt
    replace = torch.rand(BATCH) < torch.exp(-5 * (1 - timestep / T))  # π(t)
    index = torch.where(replace, draw.index, own)

    noise_level = (timestep / T)[:, None]
    noisy = (1 - noise_level) * images[own] + noise_level * torch.randn(BATCH, DIM)
    inputs = torch.cat([noisy, embeddings[index], noise_level], 1)
    loss = (student(inputs) - teacher(inputs)).square().mean(1)  # (B,)

    region = partition.locate(index, timestep=timestep)  # equals draw.region where the prompt was replaced
    sampler.observe(region, loss, timestep=timestep)
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()

shares = sampler.probs().view(8, 5)  # prompts × timesteps
print("share of the draws by cluster ", [round(q, 3) for q in shares.sum(1).tolist()])
print("share of the draws by timestep", [round(q, 3) for q in shares.sum(0).tolist()])
