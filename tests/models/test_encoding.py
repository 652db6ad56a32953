"""The cache of arrays: what is used stays, what was used longest ago goes, within a bound."""

import os

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.models.encoding import kept
from embkit.session import cache_gb


def array(n):
    return np.full((1, 1000), n, np.float32)  # 4,000 bytes, and 128 of numpy's


def keep(folder, n, age=None):
    """Asks for an array; whether it had to be made. ``age``: seconds since that use."""
    made = []
    found = kept(folder / f"{n}.npy", 1, lambda: made.append(n) or array(n))
    assert (found == array(n)).all()
    if age is not None:
        os.utime(folder / f"{n}.npy", (1e9 - age, 1e9 - age))
    return bool(made)


def there(folder):
    return sorted(int(path.stem) for path in folder.glob("*.npy"))


def test_what_was_used_longest_ago_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBKIT_CACHE_GB", "0.000013")  # three of them
    for n, age in ((1, 30), (2, 20), (3, 10)):
        keep(tmp_path, n, age)
    assert there(tmp_path) == [1, 2, 3]
    assert not keep(tmp_path, 1), "a use is noted"
    keep(tmp_path, 4)
    assert there(tmp_path) == [1, 3, 4], "2 was used longest ago"
    (tmp_path / "begun.shards").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setenv("EMBKIT_CACHE_GB", "0")
    assert not keep(tmp_path, 4), "what is in use now stays, whatever its size"
    assert there(tmp_path) == [4]
    assert (tmp_path / "notes.txt").is_file() and (tmp_path / "begun.shards").is_dir()
    assert keep(tmp_path, 2), "what went is made again"


def test_the_bound_is_5_gb_and_can_be_set(monkeypatch):
    monkeypatch.delenv("EMBKIT_CACHE_GB", raising=False)
    assert cache_gb() == 5
    for text, value in (("0.5", 0.5), ("20", 20), ("inf", float("inf"))):
        monkeypatch.setenv("EMBKIT_CACHE_GB", text)
        assert cache_gb() == value
    for text in ("five", "-1", "nan"):
        monkeypatch.setenv("EMBKIT_CACHE_GB", text)
        with pytest.raises(EmbkitError, match="gigabytes"):
            cache_gb()


def test_a_bound_that_cannot_be_read_is_said_and_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBKIT_CACHE_GB", "much")
    with pytest.raises(EmbkitError, match="EMBKIT_CACHE_GB"):
        keep(tmp_path, 1)
