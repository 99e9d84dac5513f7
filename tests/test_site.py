"""The index and the README's table, from scores written by hand."""

import json

import pytest

from defectmill import config, results, site
from defectmill.config import ConfigError
from defectmill.panel import ALL


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (config, results, site):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    folder = tmp_path / "notebooks" / "experiments"
    folder.mkdir(parents=True)
    for name in ("good", "the-best", "never-run"):
        (folder / f"{name}.yml").write_text("dataset: sample\n")
    (tmp_path / "output").mkdir()
    return tmp_path


def write_scores(root, name, score, dice=0.7, low=0.5):
    rows = [(m, score if m == "score" else 0.25, low) for m, _ in site.CELLS]
    rows = [(m, dice if m == "pooled_dice" else v, low) for m, v, low in rows]
    panel = [{"class": ALL, "measure": m, "value": v, "low": low, "high": low and 0.95}
             for m, v, low in rows]  # fmt: skip
    folder = root / "output" / name / "notebooks"
    folder.mkdir(parents=True)
    (folder / "03_train.json").write_text(json.dumps({"seconds": 500, "peak_mb": 1}))
    scores = {"part": "test part", "images": 80, "groups": 40, "gain": score - 0.25, "panel": panel}
    (folder.parent / "scores.json").write_text(json.dumps(scores))


def test_best_gain_comes_first_and_what_never_ran_is_out(root):
    write_scores(root, "good", 0.8)
    write_scores(root, "the-best", 0.9)
    assert [row["name"] for row in site.collect_results()] == ["the-best", "good"]


def test_index_links_to_the_reports_beside_it(root):
    write_scores(root, "good", 0.8765)
    path = site.write_site()
    assert path == root / "output" / "index.html"
    page = path.read_text()
    assert '<a href="good/report.html">' in page
    for shown in ("0.8765", "0.5000 to 0.9500", "80, 40", "Drawn rolled steel", ">8</td>"):
        assert shown in page


def test_nothing_run_is_told_with_what_to_do(root):
    with pytest.raises(ConfigError, match="make EXPERIMENT=sample"):
        site.write_site()
    with pytest.raises(ConfigError, match="make EXPERIMENT=sample"):
        site.write_readme_table(root / "README.md")


def test_an_experiment_whose_data_are_gone_does_not_stop_the_others(root):
    (root / "notebooks" / "experiments" / "gone.yml").write_text("dataset: no-such-data\n")
    write_scores(root, "good", 0.8)
    assert [row["name"] for row in site.collect_results()] == ["good"]


def test_scores_of_an_older_version_are_told_apart(root):
    (root / "output" / "good").mkdir()
    (root / "output" / "good" / "scores.json").write_text('{"score": 0.9, "floor": 0.8}')
    with pytest.raises(ConfigError, match="older version; make report EXPERIMENT=good"):
        site.write_site()


def test_readme_table_replaces_the_old_one_only(root):
    readme = root / "README.md"
    readme.write_text(f"# head\n\n{site.BEGIN}\nold\n{site.END}\n\ntail\n")
    write_scores(root, "good", 0.8765, dice=None, low=None)
    site.write_readme_table(readme)
    text = readme.read_text()
    assert text.startswith(f"# head\n\n{site.BEGIN}\n| experiment |")
    assert text.endswith(f"{site.END}\n\ntail\n")
    assert "| `good` | 0.8765 | 0.2500 | none | 80, 40 (test part) | 8 |" in text
    assert "old" not in text
    site.write_readme_table(readme)
    assert readme.read_text() == text


def test_a_readme_without_marks_is_refused(root):
    write_scores(root, "good", 0.9)
    readme = root / "README.md"
    readme.write_text("# head\n")
    with pytest.raises(ConfigError, match="marks"):
        site.write_readme_table(readme)
    assert readme.read_text() == "# head\n"
