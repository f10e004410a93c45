"""Any endpoint that speaks OpenAI's chat completions: GPT, Gemini's compatible address, vLLM, SGLang, `transformers
serve`.

Pictures are resized here before they are sent, so that it is known what an answer's coordinates refer to. Every failure
is one of three: it stops the run (a refused key, a spent quota), it is tried again (rate limits, server errors, broken
bodies), or it is this question's alone. docs/models/openai_api.md is the protocol card.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from robointervlm.models.openai_api.endpoint import Section
from robointervlm.models.openai_api.key import find_key

if TYPE_CHECKING:
    from robointervlm.models.openai_api.streaming import OpenAIModel

__all__ = ["Section", "load"]

logger = logging.getLogger(__name__)


def load(section: Section) -> OpenAIModel:
    """The model of this section; nothing is sent yet. Raises `RecipeError` if the key it names is not there."""
    from robointervlm.models.openai_api.streaming import OpenAIModel

    key = find_key(section.base_url, section.key_env, section.key_file)
    hosts = ", ".join(urlsplit(url).netloc for url in section.base_url)
    if key is None:
        logger.info("no key is sent to %s.", hosts)
    else:
        logger.info("the key in %s is sent to %s.", key.place, hosts)
    return OpenAIModel(section, key)
