"""Language models that write: what is wanted of one, and any OpenAI-compatible endpoint as one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..errors import EmbkitError
from ..models.openai import KEY, api_key, openai_client

RETRIES = 3  # of the client's, after a passing fault: in 0.5, 1, 2 s, or when the endpoint says


@dataclass(frozen=True)
class Failure:
    """Why a prompt has no answer: it stands where the answer would."""

    reason: str  # one sentence
    again: bool = False  # an answer came and was none: a warmer one may be


class Backend(Protocol):
    """What ``generate`` needs of a language model; it may also have ``batch_size`` (prompts a call,
    default 1), ``workers`` (calls at a time, default 1) and ``settings`` (what else decides its
    answers; kept with them)."""

    name: str

    def generate(
        self, prompts: list[str], *, max_tokens: int, temperature: float, seed: int
    ) -> Sequence[str | Failure]:
        """One answer a prompt, in order, or the Failure it met; raises an EmbkitError where nothing
        can be asked at all, as with a key that is refused."""


class OpenAIBackend:
    """Any OpenAI-compatible endpoint: OpenAI, vLLM, llama.cpp, Ollama.

    The key is read from ``OPENAI_API_KEY`` at each request; it is never shown, and cut out of what
    the endpoint says. The client itself asks again after a passing fault.

    Args:
        base_url: the endpoint; default: ``OPENAI_BASE_URL``, else OpenAI's own.
        workers: requests at a time.
        timeout: seconds without a byte after which a request is given up.
        extra: more fields of the request; None leaves a field out, as in
            ``{"max_tokens": None, "max_completion_tokens": 500}``.

    Fails without the client or a key, and for a password in the address.
    """

    batch_size = 1

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        workers: int = 4,
        timeout: float = 60.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        url = base_url or os.environ.get("OPENAI_BASE_URL")
        where = urlsplit(url or "https://api.openai.com").netloc
        if "@" in where:
            expected = "an address without them: it is shown and kept with the answers"
            hint = f"export {KEY}=... in the shell instead"
            raise EmbkitError("base_url holds a user or a password", expected=expected, hint=hint)
        self.name = f"{model} at {where}"
        self.settings: dict[str, Any] = {"extra": dict(extra)} if extra else {}
        self.workers, self._model, self._extra = workers, model, dict(extra or {})
        options = {"base_url": url, "timeout": timeout, "max_retries": RETRIES}
        self._client = openai_client(api_key=api_key, **options)

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.name!r})"

    def generate(
        self, prompts: list[str], *, max_tokens: int, temperature: float, seed: int
    ) -> list[str | Failure]:
        """One request a prompt, as ``Backend`` says."""
        fields = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed} | self._extra
        sent = {name: value for name, value in fields.items() if value is not None}
        return [self._ask(prompt, sent) for prompt in prompts]

    def _ask(self, prompt: str, fields: dict[str, Any]) -> str | Failure:
        import openai

        key, messages, status = api_key(), [{"role": "user", "content": prompt}], 0
        try:
            reply = self._client.chat.completions.create(
                model=self._model, messages=messages, extra_body=fields
            )
            choice = reply.choices[0]
            if choice.finish_reason == "length":
                return Failure("cut off at max_tokens", again=True)
            if isinstance(choice.message.content, str):
                return _without(key, choice.message.content)
            reason = "the reply holds no text"
        except openai.APIStatusError as error:
            status = 403 if error.code == "insufficient_quota" else error.status_code
            said = " ".join(_without(key, str(error.message)).split())
            reason = f"HTTP {error.status_code}: {said[:200]}"
        except openai.APITimeoutError:
            reason = f"no answer within {self._client.timeout:g} seconds"
        except openai.APIConnectionError as error:
            reason = _without(key, f"the endpoint cannot be reached: {error.__cause__ or error}")
        except Exception as error:  # a reply that is no JSON, cut off, of another shape
            reason = f"garbage came back ({type(error).__name__})"
        if status in (401, 403, 404):  # raised here: within, its context could show the key
            raise EmbkitError(
                f"the endpoint refuses every request: {reason}",
                expected="a key and a model that it knows",
                hint=f"check {KEY}, base_url and the model's name; what was answered is kept",
            )
        return Failure(reason)


def _without(key: str, text: str) -> str:
    """The text without the key; a placeholder such as "x" is no secret and may be a word."""
    return text.replace(key, "[key]") if len(key) >= 8 else text
