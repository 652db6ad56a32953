"""Language models that write: what is wanted of one, any OpenAI-compatible endpoint as one, and a
model that runs here: batched, and what its prompts share computed once."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..assets.catalogue import folder_fingerprint, resolve
from ..errors import refusals
from ..files import read_json
from ..models.loading import clear_errors
from ..models.openai import KEY, api_key, openai_client
from ..session import device, precision, quiet, torch_dtype

refused = refusals(__file__)
RETRIES = 3  # of the client's, after a passing fault: in 0.5, 1, 2 s, or when the endpoint says
TOP_K = 40  # a sampled token is one of the so many likeliest


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
            raise refused("password", key=KEY)
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
            raise refused("endpoint", why=reason, key=KEY)
        return Failure(reason)


def _without(key: str, text: str) -> str:
    """The text without the key; a placeholder such as "x" is no secret and may be a word."""
    return text.replace(key, "[key]") if len(key) >= 8 else text


class TransformersBackend:
    """A causal language model that runs here, through transformers.

    Prompts are completed as they stand, without a chat template: small models follow a few
    examples better. An answer ends with its line. The likeliest does not depend on its neighbours
    in the batch, a drawn one does. The model is a name that a package carries, a folder, or a hub
    id; fails where it cannot be had, or is no causal language model.
    """

    def __init__(self, model: str | os.PathLike = "smollm2", *, batch_size: int = 32) -> None:
        self.batch_size, self._folder = batch_size, resolve(model)
        self._device, self._precision = device(), precision()
        kinds = list(read_json(self._folder / "config.json").get("architectures") or [])
        if not any("CausalLM" in kind or "LMHead" in kind for kind in kinds):
            told = ", ".join(map(str, kinds)) or "of no known architecture"
            raise refused("no language model", model=os.fspath(model), kinds=told)
        label = os.path.basename(os.fspath(model).rstrip("/\\"))
        self.name = f"{label} ({folder_fingerprint(self._folder)[:8]})"
        self.settings = {"precision": self._precision, "top_k": TOP_K}
        self._prefix: tuple[list[int], Any] = ([], None)

    def __repr__(self) -> str:
        return f"TransformersBackend({self.name!r}, {self._precision} on {self._device})"

    @cached_property
    def _loaded(self) -> tuple[Any, Any, list[int], list[int]]:
        """(model, tokenizer, ids of the tokens that hold a line end, ids that end an answer)."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        quiet()
        dtype = torch_dtype(self._precision)
        with clear_errors(self.name, "language model", "AutoModelForCausalLM"):
            tokenizer = AutoTokenizer.from_pretrained(self._folder)
            model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=dtype)
        pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        lines = [i for i, piece in enumerate(pieces) if "\n" in piece]
        own = model.generation_config.eos_token_id
        ends = {*lines, *(own if isinstance(own, list) else [own]), tokenizer.eos_token_id}
        return model.to(self._device).eval(), tokenizer, lines, sorted(ends - {None})

    def generate(
        self, prompts: list[str], *, max_tokens: int, temperature: float, seed: int
    ) -> list[str | Failure]:
        """One batch, as ``Backend`` says."""
        model, tokenizer, _, _ = self._loaded
        room = getattr(model.config, "max_position_embeddings", None) or 10**9
        rows = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        long = "too long a prompt: {} tokens, the model has room for {}"
        found: list[str | Failure] = [Failure(long.format(len(row), room)) for row in rows]
        if fits := [i for i, row in enumerate(rows) if 0 < len(row) <= room - max_tokens]:
            answers = self._complete([rows[i] for i in fits], max_tokens, temperature, seed)
            for i, answer in zip(fits, answers, strict=True):
                found[i] = answer
        return found

    def _complete(
        self, rows: list[list[int]], max_tokens: int, temperature: float, seed: int
    ) -> list[str | Failure]:
        import torch
        from transformers import GenerationConfig

        model, tokenizer, lines, ends = self._loaded
        shared = len(os.path.commonprefix(rows))  # type: ignore[type-var]
        shared = min(shared, min(map(len, rows)) - 1)  # one token is left to go on from
        past, width = self._past(rows[0][:shared], len(rows)), max(map(len, rows))
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
        # [prefix][padding][rest]: padding is masked, and positions skip it
        ids = [row[:shared] + [pad] * (width - len(row)) + row[shared:] for row in rows]
        seen = [[1] * shared + [0] * (width - len(r)) + [1] * (len(r) - shared) for r in rows]
        drawn = {"temperature": temperature, "top_k": TOP_K} if temperature else {}
        settings = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=temperature > 0,
            eos_token_id=ends,
            pad_token_id=pad,
            begin_suppress_tokens=lines,  # an answer does not begin with a line end
            **drawn,
        )
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(seed)
            out = model.generate(
                torch.tensor(ids, device=self._device),  # (batch, width)
                attention_mask=torch.tensor(seen, device=self._device),
                generation_config=settings,
                past_key_values=past,
            )
        answers: list[str | Failure] = []
        for written in out[:, width:].tolist():
            text = tokenizer.decode(written, skip_special_tokens=True).strip()
            ended = bool(set(written) & set(ends))
            cut = Failure(f"cut off after {max_tokens} tokens: {text[:60]!r}", again=True)
            answers.append(text if ended else cut)
        return answers

    def _past(self, prefix: list[int], copies: int) -> Any:
        """The prefix's keys and values for a batch; None where the model's cache is another."""
        import torch
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        model = self._loaded[0]
        if not prefix:
            return None
        if self._prefix[0] != prefix:
            cache = DynamicCache(config=model.config)
            if any(type(layer) is not DynamicLayer for layer in cache.layers):
                return None  # sliding windows and recurrent states cannot be cut and repeated
            with torch.inference_mode():
                ids = torch.tensor([prefix], device=self._device)
                model(ids, past_key_values=cache, use_cache=True)
            self._prefix = (prefix, cache)
        past = copy.deepcopy(self._prefix[1])
        past.batch_repeat_interleave(copies)
        return past
