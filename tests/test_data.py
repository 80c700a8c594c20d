"""Where data are looked for."""

from pathlib import Path

from embodied_mem import data


def test_the_variable_comes_first_and_an_empty_one_means_none(monkeypatch, tmp_path):
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "mine"))
    assert data.data_folder() == tmp_path / "mine"
    monkeypatch.setenv(data.VARIABLE, "")
    assert data.data_folder() is None


def test_without_it_a_folder_beside_the_checkout_is_used_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.delenv(data.VARIABLE, raising=False)
    monkeypatch.setattr(data, "__file__", str(tmp_path / "checkout" / "embodied_mem" / "data.py"))
    assert data.data_folder() is None
    Path(tmp_path / "shared" / "data").mkdir(parents=True)
    assert data.data_folder() == tmp_path / "shared" / "data"
