"""Language models that write: what is wanted of one, and any OpenAI-compatible endpoint as one."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from ..errors import EmbkitError
from ..models.openai import KEY, api_key, openai_library


@dataclass(frozen=True)
class Failure:
    """Why a prompt has no answer, and what to do: it stands where the answer would.

    ``then`` is ``retry`` (asking again may help), ``report`` (it will not), or ``stop`` (the
    budget is spent: nothing else is asked).
    """

    reason: str  # one sentence
    then: Literal["retry", "report", "stop"] = "retry"
    wait: float = 0.0  # seconds that the endpoint asked to be left alone for
    silent: bool = True  # no answer came at all; else one came and was none


class Backend(Protocol):
    """What ``generate`` needs of a language model: it does the cache, retries and checks itself.

    A backend may also have ``batch_size`` (prompts a call, default 1), ``workers`` (calls at a
    time, default 1) and ``settings`` (what else decides its answers; kept with them).
    """

    name: str

    def generate(
        self, prompts: list[str], *, max_tokens: int, temperature: float, seed: int
    ) -> Sequence[str | Failure]:
        """One answer a prompt, in order, or the Failure it met; raises an EmbkitError where nothing
        can be asked at all, as with a key that is refused."""


class OpenAIBackend:
    """Any OpenAI-compatible endpoint: OpenAI, vLLM, llama.cpp, Ollama.

    The key is read from ``OPENAI_API_KEY`` at each request; it is neither kept nor shown, and cut
    out of what the endpoint says.

    Args:
        base_url: the endpoint; default: ``OPENAI_BASE_URL``, else OpenAI's own.
        workers: requests at a time.
        max_total_tokens: the budget, prompts included; requests under way are finished.
        timeout: seconds without a byte after which a request is given up.
        extra: more fields of the request; None leaves a field out, as in
            ``{"max_tokens": None, "max_completion_tokens": 500}``.

    Fails without the client or a key, for a password in the address, for a limit of nothing.
    """

    batch_size = 1

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        workers: int = 4,
        max_total_tokens: int | None = None,
        timeout: float = 60.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        openai = openai_library()
        limits = {"workers": workers, "max_total_tokens": max_total_tokens, "timeout": timeout}
        for name, value in limits.items():
            if value is not None and value <= 0:
                hint = f"leave {name} out"
                raise EmbkitError(f"{name}={value!r}", expected="more than 0", hint=hint)
        api_key()
        self._url = base_url or os.environ.get("OPENAI_BASE_URL")
        where = urlsplit(self._url or "https://api.openai.com").netloc
        if "@" in where:
            raise EmbkitError(
                "base_url holds a user or a password",
                expected="an address without them: it is shown and kept with the answers",
                hint=f"export {KEY}=... in the shell instead",
            )
        self.name = f"{model} at {where}"
        self.settings: dict[str, Any] = {"extra": dict(extra)} if extra else {}
        self.workers, self._model, self._extra = workers, model, dict(extra or {})
        self._timeout, self._max_tokens = timeout, max_total_tokens
        self._pool = openai.DefaultHttpxClient()  # connections; the key is no part of it
        self._lock = threading.Lock()
        self.requests = self.tokens = 0

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.name!r}, {self.requests:,} requests, {self.tokens:,} tokens)"

    def generate(
        self, prompts: list[str], *, max_tokens: int, temperature: float, seed: int
    ) -> list[str | Failure]:
        """One request a prompt, as ``Backend`` says."""
        fields = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed} | self._extra
        return [self._ask(prompt, fields) for prompt in prompts]

    def _ask(self, prompt: str, fields: dict[str, Any]) -> str | Failure:
        import openai

        with self._lock:
            if self._max_tokens is not None and self.tokens >= self._max_tokens:
                return Failure(f"the budget of {self._max_tokens:,} tokens is spent", "stop")
            self.requests += 1
        key = api_key()
        options: Any = {"base_url": self._url, "http_client": self._pool, "max_retries": 0}
        client: Any = openai.OpenAI(api_key=key, **options)
        try:
            reply = client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": prompt}],
                timeout=self._timeout,
                extra_body={name: value for name, value in fields.items() if value is not None},
            )
            found: str | Failure | EmbkitError = self._read(reply)
        except openai.APIStatusError as error:
            found = _refused(error, key)
        except openai.APITimeoutError:
            found = Failure(f"no answer within {self._timeout:g} seconds")
        except openai.APIConnectionError as error:
            found = Failure(f"the endpoint cannot be reached: {error.__cause__ or error}")
        except Exception as error:  # a reply that is no JSON, cut off, of another shape
            found = Failure(f"garbage came back ({type(error).__name__})")
        if isinstance(found, EmbkitError):  # not from within: its context could show the key
            raise found
        if isinstance(found, str):
            return _without(key, found)
        return replace(found, reason=_without(key, found.reason))

    def _read(self, reply: Any) -> str | Failure:
        if not getattr(reply, "choices", None):
            return Failure("the reply holds no answer")
        choice, content = reply.choices[0], reply.choices[0].message.content
        used = getattr(reply.usage, "total_tokens", None)
        with self._lock:
            self.tokens += used if isinstance(used, int) else len(content or "") // 4
        if choice.finish_reason == "length":
            return Failure("cut off at max_tokens", silent=False)
        return content if isinstance(content, str) else Failure("the reply holds no text")


def _without(key: str, text: str) -> str:
    """The text without the key; a placeholder such as "x" is no secret and may be a word."""
    return text.replace(key, "[key]") if len(key) >= 8 else text


def _refused(error: Any, key: str) -> Failure | EmbkitError:
    """What an HTTP error means for the item that met it, and for the others."""
    status, code = error.status_code, str(error.code or "")
    reason = f"HTTP {status}: {' '.join(_without(key, str(error.message)).split())[:200]}"
    if status in (401, 403, 404) or code == "insufficient_quota":
        return EmbkitError(
            f"the endpoint refuses every request: {reason}",
            expected="a key and a model that it knows",
            hint=f"check {KEY}, base_url and the model's name; what was answered is kept",
        )
    if status in (408, 409, 425, 429) or status >= 500:
        wait = 0.0
        with suppress(TypeError, ValueError):  # absent, or a date: the back-off will do
            wait = float(error.response.headers.get("retry-after"))
        return Failure(reason, "retry", max(0.0, wait))
    return Failure(reason, "report")
