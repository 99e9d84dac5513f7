"""What make is told of the line becomes settings."""

from defectmill.running.exports import tell_line


def test_a_region_begins_at_the_current_folder_and_what_is_not_said_is_no_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tell_line("", "") == {}
    assert tell_line("left.json", "") == {"line.roi": str(tmp_path / "left.json")}
    assert tell_line("/a/left.json", "0.5") == {"line.roi": "/a/left.json", "line.mm_per_pixel": "0.5"}
