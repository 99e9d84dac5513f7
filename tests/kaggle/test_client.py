"""The commands that Kaggle's client gets, to the letter, and what is made of its answers.

The client is one made by hand that notes its words: nothing is sent.
"""

import json
import re
import shutil
import sys
import zipfile

import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.datasets.competition import DatasetError
from defectmill.kaggle.bundle import write_notebook
from defectmill.kaggle.client import PATIENCE, KaggleError, print_push, push, submit
from defectmill.kaggle.metadata import Place, describe_dataset, write_json
from defectmill.products.inputs import hash_file

# Answers one after the other for each command; the last one again and again.
CLIENT = """
import json, pathlib, sys
words, home = sys.argv[1:], pathlib.Path(__file__).parent
with (home / "words.txt").open("a") as file:
    file.write(" ".join(words) + "\\n")
answers = json.loads((home / "answers.json").read_text())
key = " ".join(words[:2])
said = answers.get(key, [""])
told, left = said[0], said[1:]
answers[key] = left or said
(home / "answers.json").write_text(json.dumps(answers))
if key == "kernels output":
    folder = pathlib.Path(words[words.index("-p") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    if told != "nothing":
        (folder / "submission.csv").write_text("ImageId_ClassId,EncodedPixels\\n")
    if (home / "training.session").is_file():
        (folder / "training.session").write_bytes((home / "training.session").read_bytes())
print(told)
sys.exit(told.startswith("403") or told.startswith("404"))
"""
SUBMISSIONS = (
    "fileName,date,description,status,publicScore,privateScore\n"
    'submission.csv,2026-11-28 12:00:00,"{message}",{status},{public},{private}\n'
    "submission.csv,2026-11-01 12:00:00,older,SubmissionStatus.COMPLETE,0.5,0.4\n"
)
ANSWERS = {
    "datasets status": ["404 - Not Found", "pending", "ready"],
    "datasets create": ["Your private Dataset is being created."],
    "datasets version": ["Dataset version is being created."],
    "kernels push": ["Kernel version 3 successfully pushed.  Please check progress at https://..."],
    "kernels status": [
        'jane/defectmill-e-predict has status "KernelWorkerStatus.RUNNING"',
        'jane/defectmill-e-predict has status "KernelWorkerStatus.COMPLETE"',
    ],
    "kernels output": ["Output file downloaded"],
    "config view": ["Configuration values from /home/jane/.kaggle\n- username: jane\n- path: None"],
    "competitions submit": ["Successfully submitted to Steel"],
    "competitions submissions": [
        SUBMISSIONS.format(message="e, version 3", status="SubmissionStatus.PENDING", public="", private=""),
        SUBMISSIONS.format(
            message="e, version 3", status="SubmissionStatus.COMPLETE", public=0.91, private=0.90
        ),
    ],
}


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A `kaggle` on PATH; calling the fixture's value changes what it answers."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "client.py").write_text(CLIENT)
    (tools / "kaggle").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tools / "client.py"}" "$@"\n')
    (tools / "kaggle").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    monkeypatch.setenv("DEFECTMILL_KAGGLE_POLL", "0")
    for what in PATIENCE:
        monkeypatch.setitem(PATIENCE, what, 120)
    answers = {**ANSWERS}

    def answer(**said):
        answers.update({key.replace("_", " "): value for key, value in said.items()})
        (tools / "answers.json").write_text(json.dumps(answers))
        return tools

    answer()
    return answer


def told(client) -> list[str]:
    path = client() / "words.txt"
    return path.read_text().splitlines() if path.is_file() else []


@pytest.fixture
def run(root):
    (root / "notebooks" / "experiments" / "e.yml").write_text("dataset: sample\n")
    run = load_experiment("e")
    write_kernel(run, "jane")
    return run


def write_kernel(run, owner, what="predict"):
    home, place = run.output / "kernel", Place(owner, "steel", 9)
    shutil.rmtree(home, ignore_errors=True)
    write_notebook("e", place, what, home / "notebook")
    (home / "dataset").mkdir()
    write_json(home / "dataset" / "dataset-metadata.json", describe_dataset("e", place, what))
    write_json(home / "dataset" / "manifest.json", {"kind": "a bundle", "code": "0", "files": {}})
    write_json(home / "dataset" / "settings.json", {"settings": {"dataset": "sample"}})


def test_a_first_push_creates_the_dataset_waits_for_it_and_runs_the_notebook(client, run):
    pushed = push(run)
    home = run.output / "kernel"
    assert told(client) == [
        "datasets status jane/defectmill-e-model",
        f"datasets create -p {home}/dataset -r zip",
        "datasets status jane/defectmill-e-model",
        "datasets status jane/defectmill-e-model",
        f"kernels push -p {home}/notebook",
        "kernels status jane/defectmill-e-predict",
        "kernels status jane/defectmill-e-predict",
        f"kernels output jane/defectmill-e-predict -p {home}/output -o",
    ]
    assert pushed == json.loads((home / "pushed.json").read_text())
    assert (pushed["kernel"], pushed["version"]) == ("jane/defectmill-e-predict", 3)


def test_another_push_makes_a_version_named_by_its_manifest(client, run):
    client(datasets_status=["ready"])
    push(run)
    home = run.output / "kernel"
    version = told(client)[1]
    assert re.fullmatch(f"datasets version -p {home}/dataset -m e [0-9a-f]{{12}} -r zip", version)


def test_an_owner_that_nobody_said_is_asked_of_the_client(client, run):
    write_kernel(run, "your-name")
    push(run)
    assert told(client)[:2] == ["config view", "datasets status jane/defectmill-e-model"]
    kernel = json.loads((run.output / "kernel" / "notebook" / "kernel-metadata.json").read_text())
    assert kernel["dataset_sources"] == ["jane/defectmill-e-model"]


def test_an_owner_that_the_client_does_not_know_must_be_said(client, run):
    write_kernel(run, "your-name")
    client(config_view=["- username: None"])
    with pytest.raises(ConfigError, match="say OWNER=<your name at Kaggle>"):
        push(run)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"datasets_create": ["Dataset creation error: title in use"]}, "title in use"),
        ({"datasets_status": ["404", "processing error"]}, "dataset: processing error"),
        ({"kernels_push": ["Kernel push error: Maximum batch GPU session count"]}, "Maximum batch GPU"),
        (
            {"kernels_push": ["version 4. The following are not valid dataset sources: x"]},
            "not valid dataset",
        ),
        ({"kernels_push": ["403 - Forbidden"]}, "kaggle kernels push .*403 - Forbidden"),
        ({"kernels_status": ['x has status "error"']}, 'notebook: x has status "error"'),
        ({"kernels_status": ['x has status "cancelAcknowledged"']}, "cancelAcknowledged"),
        ({"kernels_output": ["nothing"]}, "left no submission.csv"),
    ],
)
def test_what_kaggle_refuses_is_told_and_nothing_counts_as_pushed(client, run, said, why):
    client(**said)
    with pytest.raises(KaggleError, match=why):
        push(run)
    assert not (run.output / "kernel" / "pushed.json").exists()


def test_without_a_kernel_folder_make_kernel_is_named(client, root):
    (root / "notebooks" / "experiments" / "e.yml").write_text("dataset: sample\n")
    run = load_experiment("e")
    with pytest.raises(ConfigError, match="make kernel EXPERIMENT=e"):
        push(run)


def test_without_a_token_nothing_is_sent(client, run, monkeypatch, tmp_path):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(DatasetError, match="no Kaggle token"):
        push(run)
    assert told(client) == []


def test_what_was_pushed_is_submitted_by_its_version_and_its_scores_come_back(client, run):
    push(run)
    (client() / "words.txt").unlink()
    assert submit(run, "steel") == {"publicScore": 0.91, "privateScore": 0.90}
    assert told(client) == [
        "competitions submit steel -f submission.csv -k jane/defectmill-e-predict -v 3 -m e, version 3",
        "competitions submissions steel -v -q",
        "competitions submissions steel -v -q",
    ]


def test_where_nothing_was_pushed_the_file_is_submitted(client, run):
    run.submission.parent.mkdir(parents=True)
    run.submission.write_text("ImageId_ClassId,EncodedPixels\n")
    message = f"e {hash_file(run.submission)[:12]}"
    client(
        competitions_submissions=[
            "Warning: an old client",
            SUBMISSIONS.format(message=message, status="complete", public=0.88, private=""),
        ]
    )
    assert submit(run, "steel") == {"publicScore": 0.88}
    assert told(client)[0] == f"competitions submit steel -f {run.submission} -m {message}"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"competitions_submit": ["Could not submit to competition"]}, "Could not submit"),
        ({"competitions_submit": ["403 - Forbidden"]}, "403"),
        (
            {
                "competitions_submissions": [
                    SUBMISSIONS.format(message="e, version 3", status="error", public="", private="")
                ]
            },
            "score: error",
        ),
    ],
)
def test_a_submission_that_fails_is_told(client, run, said, why):
    push(run)
    client(**said)
    with pytest.raises(KaggleError, match=why):
        submit(run, "steel")


def test_a_dataset_that_is_no_competition_cannot_be_submitted(client, run):
    with pytest.raises(ConfigError, match="say COMPETITION="):
        submit(run, "")
    assert told(client) == []


def test_what_takes_for_ever_ends(client, run, monkeypatch):
    monkeypatch.setitem(PATIENCE, "notebook", -1)
    with pytest.raises(KaggleError, match=r"notebook: still .*RUNNING.* look at it on kaggle\.com"):
        push(run)


def leave_session(client, outcome):
    with zipfile.ZipFile(client() / "training.session", "w") as archive:
        archive.writestr("session.json", json.dumps({"experiment": "e", "session": 1, "outcome": outcome}))
        archive.writestr("output/history.csv", "epoch,loss\n0,0.5\n")


def test_a_training_that_was_stopped_goes_on_from_its_own_output_with_the_next_push(client, run, capsys):
    write_kernel(run, "jane", "train")
    home = run.output / "kernel"
    leave_session(client, "stopped")
    print_push(run)
    assert "version 3: the time was over first: make push EXPERIMENT=e goes on" in capsys.readouterr().out
    assert told(client)[1] == f"datasets create -p {home}/dataset -r zip"
    assert (run.output / "history.csv").read_text() == "epoch,loss\n0,0.5\n"
    (client() / "words.txt").unlink()
    leave_session(client, "done")
    print_push(run)
    assert "version 3: its networks are in output/e" in capsys.readouterr().out
    assert told(client) == [
        f"kernels push -p {home}/notebook",
        "kernels status jane/defectmill-e-train",
        "kernels status jane/defectmill-e-train",
        f"kernels output jane/defectmill-e-train -p {home}/output -o",
    ]
    kernel = json.loads((home / "notebook" / "kernel-metadata.json").read_text())
    assert kernel["kernel_sources"] == ["jane/defectmill-e-train"]


def test_a_training_is_nothing_to_submit(client, run):
    write_kernel(run, "jane", "train")
    leave_session(client, "done")
    push(run)
    with pytest.raises(ConfigError, match=r"pushed\.json: of a training, .*make kernel EXPERIMENT=e"):
        submit(run, "steel")


def test_a_training_that_left_nothing_counts_for_none(client, run):
    write_kernel(run, "jane", "train")
    with pytest.raises(KaggleError, match=r"left no training\.session"):
        push(run)
    assert not (run.output / "kernel" / "pushed.json").exists()
