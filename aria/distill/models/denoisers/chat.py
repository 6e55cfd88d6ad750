"""Pipelines that put a prompt into the chat template of a language model's tokenizer."""

from __future__ import annotations

from typing import Any

from aria.distill.models.denoisers.base import TokenLimit, default_of, digest


def what_the_template_leaves(pipeline: Any, wrapped: str) -> TokenLimit:
    """The limit of a prompt's tokens, of which the pipeline takes some by default, those of the template included;
    ``wrapped`` is the empty text in the template. In a longer prompt the end of the template is cut off first."""
    tokenizer = tokenizer_of(pipeline)
    kept = int(default_of(pipeline.__call__, "max_sequence_length"))
    return TokenLimit(tokenizer, kept - len(tokenizer(wrapped, add_special_tokens=False).input_ids))


def what_a_user_may_write(pipeline: Any, **switches: bool) -> TokenLimit:
    """The same, of a template in which a user's message is the prompt, and the assistant's begins."""
    empty = [{"role": "user", "content": ""}]
    wrapped = pipeline.tokenizer.apply_chat_template(empty, tokenize=False, add_generation_prompt=True, **switches)
    return what_the_template_leaves(pipeline, wrapped)


def tokenizer_of(pipeline: Any) -> Any:
    """The tokenizer, also where the pipeline holds it in a processor of texts and images."""
    return getattr(pipeline.tokenizer, "tokenizer", pipeline.tokenizer)


def template(pipeline: Any) -> dict[str, str]:
    """What conditions depend on besides the text encoders."""
    return {"chat template": digest(str(pipeline.tokenizer.chat_template))}
