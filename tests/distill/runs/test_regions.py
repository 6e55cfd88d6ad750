"""A run's regions: fitted, or read from a file that must be of the same prompts."""

from __future__ import annotations

import pytest
import torch

import aria
from aria import partitioners
from aria.distill.data.prompts import Texts
from aria.distill.runs import regions

TEXTS = [f"{kind} {i}" for i in range(10) for kind in ("cat", "dog")]


def pool(texts=TEXTS, weight=None, seed=0):
    x = torch.randn(len(texts), 3, generator=torch.Generator().manual_seed(seed))
    x[:, 0] += torch.tensor([9.0 * text.startswith("cat") for text in texts])
    labels = {"kind": [text.split()[0] for text in texts]}
    return aria.Pool(embeddings=x.numpy(), columns=labels, texts=texts, weight=weight)


def saved(path, spec, given):
    partitioners.save(aria.registry.partitioner(spec).fit(given), path)
    return str(path)


@pytest.mark.parametrize("spec", ["kmeans(2)", "labels('kind')", "product(labels('kind'), bins('timestep', 0, 20, 2))"])
def test_a_file_gives_the_regions_it_was_written_with(spec, tmp_path):
    path = saved(tmp_path / "regions.safetensors", spec, pool())
    regions.check(path)
    read = regions.divide(path, pool())
    assert partitioners.digest(read) == partitioners.digest(regions.divide(spec, pool()))


@pytest.mark.parametrize("spec", ["labels('kind')", "product(labels('kind'), bins('timestep', 0, 20, 2))"])
def test_the_target_decides_the_masses(spec, tmp_path):
    texts = [*TEXTS, "owl 0"]
    given = pool(texts, weight=torch.arange(21) + 1.0)
    by = {target: regions.divide(spec, given, target=target) for target in ("pool", "conditions", "regions")}
    bins = by["pool"].num_regions // 3
    for target, masses in (("pool", (100, 110, 21)), ("conditions", (10, 10, 1)), ("regions", (1, 1, 1))):
        expected = torch.tensor(masses, dtype=torch.float64).repeat_interleave(bins) / sum(masses) / bins
        torch.testing.assert_close(by[target].mass, expected)
    path = str(tmp_path / "regions.safetensors")
    partitioners.save(by["pool"], path)
    read = regions.divide(path, given, target="regions")
    assert partitioners.digest(read) == partitioners.digest(by["regions"])
    drawn = by["regions"].draw(torch.zeros(40000, dtype=torch.long), torch.Generator().manual_seed(0))["index"]
    share = torch.bincount(drawn, minlength=21).double() / 40000
    cats = torch.arange(21) % 2 * -1 + 1.0
    cats[20] = 0  # the owl
    torch.testing.assert_close(share, cats * given.weight / 100, atol=0.01, rtol=0, check_dtype=False)


def test_a_region_without_mass_stays_empty():
    weight = torch.tensor([1.0, 0.0] * 10)
    assert regions.divide("labels('kind')", pool(weight=weight), target="regions").mass.tolist() == [1.0, 0.0]


def test_auto_grows_with_the_pool():
    assert regions.divide("auto", pool()).num_regions == 2 and regions.divide("auto", pool(TEXTS[:15])).num_regions == 1


def test_files_of_other_pools_are_refused(tmp_path):
    path = saved(tmp_path / "regions.safetensors", "labels('kind')", pool())
    cases = [
        (pool(TEXTS[1:]), "divides 20 prompts, the pool has 19"),
        (pool([TEXTS[1], TEXTS[0], *TEXTS[2:]]), "prompt 0 'dog 0' would be in another region"),
        (pool(weight=torch.ones(20)), "different weights than the pool"),
    ]
    for given, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            regions.divide(path, given)
    weighted = saved(tmp_path / "weighted.safetensors", "labels('kind')", pool(weight=torch.arange(20) + 1.0))
    with pytest.raises(ValueError, match="different weights"):
        regions.divide(weighted, pool(weight=torch.ones(20)))
    with pytest.raises(ValueError, match="no column"):
        regions.divide(path, aria.Pool(size=20))


def test_a_few_prompts_near_a_border_may_move(tmp_path):
    many = [f"{kind} {i}" for i in range(200) for kind in ("cat", "dog")]
    path = saved(tmp_path / "regions.safetensors", "kmeans(2)", pool(many))
    near = pool(many)
    near.embeddings[:3, 0] += 9 * torch.tensor([-1.0, 1.0, -1.0]).numpy()
    assert regions.divide(path, near).num_regions == 2


def test_unknown_partitioners_are_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("{}")
    for spec, sentence in (
        (str(tmp_path / "text.safetensors"), "cannot read a partition from it"),
        ("kmean(3)", "kmeans"),
    ):
        with pytest.raises(ValueError, match=sentence):
            regions.check(spec)
    regions.check("auto"), regions.check("kmeans(3)")


@pytest.mark.parametrize("content", [
    "{}", '{"prompts": 1}', '{"prompts": "1", "texts": "a"}', '{"prompts": 1, "texts": []}', "[]", "",
    '{"prompts": -1, "texts": "a"}', "[" * 9000,
])  # fmt: skip
def test_a_record_of_prompts_that_is_none_is_refused_in_one_line(content, tmp_path):
    (tmp_path / regions.PROMPTS).write_text(content)
    with pytest.raises(ValueError, match=r"^[^\n]*partition\.json[^\n]*\Z"):
        regions.check_prompts(tmp_path, Texts.of(["a"]))
    regions.save_prompts(tmp_path, Texts.of(["a"]))
    regions.check_prompts(tmp_path, Texts.of(["a"]))
