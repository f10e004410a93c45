"""The settings of an endpoint that speaks OpenAI's chat completions, and what its address says. Light: no requests."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat


def checked_address(url: str) -> str:
    """The address without what need not be there. Raises `ValueError`, which shows no password that is in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("an address is not a URL") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds a user, a query or a fragment; keys come from key_env or key_file only")
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("an address starts with https:// (or http:// on this machine), such as https://host/v1")
    return url.rstrip("/").removesuffix("/chat/completions").rstrip("/")


def is_plain(url: str) -> bool:
    """Whether anybody on the way can read what is sent."""
    return urlsplit(url).scheme == "http"


def is_local(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = host_of(url)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(url: str) -> str:
    """The host's name, in small letters and without the port."""
    return urlsplit(url).hostname or ""


class Section(BaseModel):
    """The `model` section of a recipe.

    Attributes:
        base_url: the address up to `/v1`; several are replicas of one model, used evenly and in each other's stead.
        model: the model's name at the endpoint (`--model` gives it, too).
        coordinates: how the model writes places. `resized` is pixels of the picture it is sent; `pixel`, those of the
            stored picture, needs `resize: none`.
        key_env: the environment variable with the key, or `none`. Not given, it is the one that the maker documents at
            the maker's own address (OPENAI_API_KEY, GEMINI_API_KEY), and OPENAI_API_KEY for a server on this machine.
        key_file: a file with the key instead.
        allow_http: send plain http to other hosts than this one.
        revision: anything; another one is another model, whose answers are not reused.
        concurrency: how many requests are in flight.
        deadline_seconds: the longest an attempt may take in all, from connecting to the last byte.
        attempts: how often one question is tried.
        backoff_seconds: the first wait between two attempts; it doubles, and is drawn from its upper half.
        retry_after_seconds: the longest wait that a server may ask for.
        retry_credit: how many more attempts may fail than answers came, over the whole run, before it stops.
        resize: `smart_resize` to Qwen's multiples of 28 between min_pixels and max_pixels; `max_side` shrinks to that
            side; `none` sends pictures as they are stored.
        image_format: PNG is lossless; JPEG is smaller and has a quality.
        detail: OpenAI's own setting of that name, not sent if not given.
        token_limit_key: what the endpoint calls the longest answer; the other name is tried once where it is refused.
        omit: what is not sent. What an endpoint refuses by name is left out from then on without this, with a warning.
        extra: more fields of the request.
        max_usd: stop when this much was spent, at the two prices; requests in flight then are still paid for.
        max_tokens_total: stop when so many tokens, in and out, were used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: tuple[str, ...] = Field(min_length=1)
    model: str = Field(min_length=1, validation_alias=AliasChoices("model", "path"))
    coordinates: CoordinateFormat
    name: str = ""
    revision: str = ""
    key_env: str | None = None
    key_file: Path | None = None
    allow_http: bool = False

    concurrency: int = Field(default=8, ge=1, le=256)
    deadline_seconds: float = Field(default=120.0, gt=0)
    attempts: int = Field(default=6, ge=1, le=6)
    backoff_seconds: float = Field(default=1.0, ge=0)
    retry_after_seconds: float = Field(default=120.0, ge=0, le=120)
    retry_credit: int = Field(default=100, ge=0)

    resize: Literal["smart_resize", "max_side", "none"] = "smart_resize"
    min_pixels: int = Field(default=MIN_PIXELS, ge=1)
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    max_side: int = Field(default=1024, ge=1)
    image_format: Literal["png", "jpeg"] = "png"
    jpeg_quality: int = Field(default=95, ge=1, le=100)
    detail: Literal["low", "high", "auto"] | None = None

    token_limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    omit: tuple[Literal["temperature", "seed"], ...] = ()
    extra: dict[str, object] = Field(default_factory=dict)

    usd_per_million_input: float | None = Field(default=None, ge=0)
    usd_per_million_output: float | None = Field(default=None, ge=0)
    max_usd: float | None = Field(default=None, gt=0)
    max_tokens_total: int | None = Field(default=None, gt=0)

    @field_validator("base_url", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("base_url")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_address(url) for url in urls)

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: dict[str, object]) -> dict[str, object]:
        ours = {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed", "stream", "n"}
        if taken := sorted(ours & extra.keys()):
            raise ValueError(f"extra sets {', '.join(taken)}, which have settings of their own or are not supported")
        return extra

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.coordinates is CoordinateFormat.PIXEL and self.resize != "none":
            raise ValueError(
                "coordinates=pixel means pixels of the stored picture, which a model that is sent a resized one cannot "
                "know: give coordinates=resized, or resize=none"
            )
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("give key_env or key_file, not both")
        if self.max_usd is not None and not self.priced:
            raise ValueError("max_usd needs usd_per_million_input and usd_per_million_output")
        if not self.allow_http and (plain := [url for url in self.base_url if is_plain(url) and not is_local(url)]):
            raise ValueError(
                f"{plain[0]} is plain http, which anybody on the way can read: use https, or allow_http=true"
            )
        return self

    @property
    def priced(self) -> bool:
        """Whether the cost of a token is known."""
        return self.usd_per_million_input is not None and self.usd_per_million_output is not None
