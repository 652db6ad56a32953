"""An OpenAI-compatible endpoint as a baseline: order, batches, and what is missing."""

import sys
import types
from types import SimpleNamespace as Namespace

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.models.openai import openai_embeddings


class Endpoint:
    """Gives each text its length, shuffled; counts the requests."""

    def __init__(self, base_url=None, max_retries=None):
        self.requests = []
        self.embeddings = Namespace(create=self.create)
        Endpoint.last = self

    def create(self, model, input):
        self.requests.append(len(input))
        rows = [Namespace(index=i, embedding=[len(t), 1.0]) for i, t in enumerate(input)]
        return Namespace(data=rows[::-1])


@pytest.fixture
def client(monkeypatch):
    module = types.ModuleType("openai")
    module.OpenAI = Endpoint
    monkeypatch.setitem(sys.modules, "openai", module)
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")


def test_rows_come_in_the_texts_order_and_in_batches(client):
    embed = openai_embeddings("some-model", batch_size=2)
    found = embed(["a", "bb", "ccc", "dddd", "eeeee"])
    np.testing.assert_array_equal(found[:, 0], [1, 2, 3, 4, 5])
    assert Endpoint.last.requests == [2, 2, 1]
    assert "secret-key" not in repr(embed) and embed.__name__ == "some-model"


def test_no_key_is_one_clear_error(client, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EmbkitError, match="OPENAI_API_KEY"):
        openai_embeddings("some-model")


def test_no_client_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EmbkitError, match=r'pip install "embkit\[openai\]"'):
        openai_embeddings("some-model")
