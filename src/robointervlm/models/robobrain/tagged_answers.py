"""What RoboBrain 2.0 does otherwise than Qwen2.5-VL: how an answer begins, and what is left of it.

Source: `inference.py` of FlagOpen/RoboBrain2.0, and the same in the public release's baseline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models.qwen2_5_vl.chat import Chat
from robointervlm.models.qwen2_5_vl.network import Qwen25VL

_THINK, _ANSWER = "<think>", "<think></think><answer>"


@dataclass(frozen=True)
class OpenedChat(Chat):
    """The checkpoint's template, with the first words of the answer already said."""

    opening: str = ""

    def rendered(self, messages: Sequence[Message], *, open_answer: bool) -> str:
        text = super().rendered(messages, open_answer=open_answer)
        return text + self.opening if open_answer else text


class RoboBrain(Qwen25VL):
    """A Qwen2.5-VL that is made to begin with its answer, or with a thought."""

    _opening = ""

    def open_with(self, *, thinking: bool) -> None:
        """Say how every answer begins."""
        self._opening = _THINK if thinking else _ANSWER
        self.encoder.chat = OpenedChat(self.encoder.chat.tokenizer, opening=self._opening)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint} {self._opening}".encode()).hexdigest()

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        """As Qwen2.5-VL; of an answer without a thought, the text alone is kept, without its tags.

        A thought is given back with the tag that begins it, which is in the prompt, so that a thought that was cut off
        is not taken for an answer.
        """
        kept: list[Reply | Exception] = []
        for each in super().answer(prompts, decoding):
            if isinstance(each, Reply) and self._opening == _THINK:
                kept.append(replace(each, text=_THINK + each.text))
            elif isinstance(each, Reply):
                kept.append(replace(each, text=each.text.replace("<answer>", "").replace("</answer>", "").strip()))
            else:
                kept.append(each)
        return kept
