"""Raw texts with continuations, tokenised as evaluation harnesses do it: no chat template.

A text and its continuation become tokens together, so that a token may straddle the border; the tokens behind as many
as the text alone has belong to the continuation. Blanks at the end of the text belong to the continuation. A
continuation of nothing follows the start-of-text token, or the end-of-text token where there is no other.
"""

from __future__ import annotations

from collections.abc import Sequence

from assent.text.template import ChatTemplate, Encoded


def encode_continuations(template: ChatTemplate, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Each text with its continuation; the mask has the tokens of the continuation."""
    encoded = []
    for text, continuation in pairs:
        context = text.rstrip()
        whole = template.continuation_ids(text + continuation)
        before = len(template.continuation_ids(context))
        if not context:
            bare = template.text_ids([text + continuation])[0]
            start = template.tokenizer.bos_token_id
            start = template.eos_id if start is None else int(start)
            whole, before = bare if bare[:1] == (start,) else (start, *bare), 1
        mask = (False,) * before + (True,) * (len(whole) - before)
        encoded.append(Encoded(ids=whole, assistant_mask=mask))
    return encoded
