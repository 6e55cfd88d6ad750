"""Prompts longer than the text encoder's limit cause one warning, wherever they are truncated."""

from __future__ import annotations

import pytest

from aria import progress
from aria.distill.data import cache
from aria.distill.data.prompts import Texts
from aria.distill.data.truncation import are_cut, sentence
from aria.distill.models import denoisers
from aria.distill.models.denoisers.base import TokenLimit
from aria.distill.models.pipelines import open_pipeline

LONG = "an axolotl in a jar, "


@pytest.mark.parametrize(
    ("teacher", "tokens"),
    [
        ("sd_folder", 12),
        ("sdxl_folder", 12),
        ("pixart_folder", 120),
        ("pixart_sigma_folder", 300),
        ("sana_folder", 299),
        ("flux_folder", 512),
        ("flux2_folder", 361),
        ("klein_folder", 498),
        ("qwen_folder", 512),
        ("aura_folder", 256),
        ("lumina_folder", 92),
        ("zimage_folder", 504),
        ("sd3_folder", 256),
        ("wan_folder", 512),
        ("ltx_folder", 128),
    ],
)
def test_the_limit_is_where_the_pipeline_cuts(teacher, tokens, request):
    pipeline = open_pipeline(request.getfixturevalue(teacher))
    denoiser = denoisers.of(pipeline)
    limit = denoiser.token_limit(pipeline)
    assert limit is not None and limit.tokens == tokens
    text, longest = LONG * tokens, 0
    for end in range(1, len(text)):
        if bool(are_cut([text[:end]], limit).any()):
            break
        longest = end
    same, other = text[:longest], text[: longest + 1]
    assert len(limit.tokenizer(same).input_ids) <= tokens < len(limit.tokenizer(other).input_ids)
    condition = denoiser.encode(pipeline, [text, text + "a red fox"], "cpu")["prompt_embeds"]
    assert condition[0].equal(condition[1]), "what comes after the limit changes nothing"


def test_classes_are_never_cut(dit_folder):
    pipeline = open_pipeline(dit_folder)
    assert denoisers.of(pipeline).token_limit(pipeline) is None and not are_cut(["0", "207"], None).any()


@pytest.mark.parametrize("teacher", ["sd", "sdxl", "pixart", "sd3", "flux", "qwen", "aura", "lumina", "zimage"])
def test_a_cache_warns_once(teacher, request, tmp_path, caplog):
    pipeline = open_pipeline(request.getfixturevalue(f"{teacher}_folder"))
    texts = ["a cat", LONG * 30, "a dog", LONG * 31, "a cat", LONG * 30]
    (tmp_path / "prompts.txt").write_text("\n".join(texts))

    def warnings():
        caplog.clear()
        cache.fill(tmp_path / "c", pipeline, prompts=tmp_path / "prompts.txt", bar=progress.silent, batch_size=1)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    tokens = denoisers.of(pipeline).token_limit(pipeline).tokens
    begins = "'an axolotl in a jar, an axolotl in a ja…'"
    assert warnings() == [
        f"3 of 6 prompts are longer than the text encoder's {tokens} tokens and are cut: first prompt 1, {begins}"
    ]
    assert warnings() == [], "nothing new was encoded"
    (tmp_path / "prompts.txt").write_text("\n".join([*texts[2:], "a bee"]))
    assert [line[:16] for line in warnings()] == ["2 of 5 prompts a"]


def test_one_line_however_the_prompt_is_broken():
    limit = TokenLimit(lambda texts, **_: type("Encoded", (), {"input_ids": [text.split() for text in texts]}), 2)
    texts = ["a b", "a  b\tc", *["a"] * 1998]
    cut = are_cut(texts, limit)
    warning = sentence(cut, Texts.of(texts), limit)
    assert warning == (
        "1 of 2,000 prompts are longer than the text encoder's 2 tokens and are cut: first prompt 1, 'a b c'"
    )
    assert sentence(cut[:1], Texts.of(texts[:1]), limit) is None
