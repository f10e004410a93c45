"""What a run has used, and the limits at which it stops."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robointervlm.core.errors import RecipeError, StoppedError
from robointervlm.models.openai_api.response import Used

if TYPE_CHECKING:
    from robointervlm.models.openai_api.endpoint import Section

logger = logging.getLogger(__name__)

# What is done about a field that an endpoint refuses.
_WITHOUT = {
    "temperature": "it is left out, so that the endpoint's own default holds: answers may differ from call to call.",
    "seed": "it is left out.",
    "detail": "it is left out.",
}


@dataclass
class Spending:
    """Counts requests, tokens and failures. Tokens of earlier calls of the same run count towards the limits."""

    section: Section
    requests: int = 0
    retries: int = 0
    answers: int = 0
    without_usage: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    earlier_input_tokens: int = 0
    earlier_output_tokens: int = 0
    earlier_answers: int = 0
    refused_fields: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def usd(self) -> float | None:
        """What the whole run has cost so far, None without prices."""
        into, out = self.section.usd_per_million_input, self.section.usd_per_million_output
        if into is None or out is None:
            return None
        paid_in = into * (self.earlier_input_tokens + self.input_tokens)
        return (paid_in + out * (self.earlier_output_tokens + self.output_tokens)) / 1e6

    @property
    def tokens(self) -> int:
        """All tokens of the whole run, in and out."""
        earlier = self.earlier_input_tokens + self.earlier_output_tokens
        return earlier + self.input_tokens + self.output_tokens

    def check(self) -> None:
        """Raises `StoppedError` if the budget is spent."""
        limit, usd = self.section.max_usd, self.usd
        if limit is not None and usd is not None and usd >= limit:
            raise StoppedError(f"the budget is spent: ${usd:.4f} of max_usd={limit:g}")
        most = self.section.max_tokens_total
        if most is not None and self.tokens >= most:
            raise StoppedError(f"the budget is spent: {self.tokens} tokens of max_tokens_total={most}")

    def note_used(self, used: Used | None) -> None:
        """Counts a body that came. Raises `RecipeError` if a budget is to be kept and the endpoint tells no tokens."""
        if used is None:
            self.without_usage += 1
            if self.section.max_usd is not None or self.section.max_tokens_total is not None:
                raise RecipeError(
                    "the endpoint does not say how many tokens it charges, so that no budget can be kept."
                )
            return
        self.input_tokens += used.input_tokens
        self.output_tokens += used.output_tokens

    def note_refused_field(self, host: str, name: str) -> None:
        """Counts a request that was refused for a field's name, which later ones do not have, and says so once."""
        self.refused_fields.append(name)
        self.failures["refused field"] += 1
        logger.warning(
            "%s does not take '%s': %s", host, name, _WITHOUT.get(name, "its other name is sent from now on.")
        )

    def note_retry(self) -> None:
        """Counts another attempt. Raises `StoppedError` if the endpoint fails more than it answers."""
        if self.retries >= self.answers + self.section.retry_credit:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.failures.most_common(3))
            raise StoppedError(f"the endpoint fails more than it answers ({kinds}; {self.answers} answers)")
        self.retries += 1

    def summary(self) -> dict[str, object]:
        """The counts for a file: what kept answers and failed attempts of this call used, and the whole run's cost."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "answers": self.answers,
            "answers_without_usage": self.without_usage,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "input_tokens_before": self.earlier_input_tokens,
            "output_tokens_before": self.earlier_output_tokens,
            "usd_of_the_run": self.usd,
            "refused_fields": list(self.refused_fields),
            "failures": dict(sorted(self.failures.items())),
        }
