"""All networks of an experiment, all arms of an ablation, one inspection: the notebooks that each takes."""

import json

from defectmill import files
from defectmill.config import ConfigError, Experiment, load_experiment
from defectmill.evaluation import provenance
from defectmill.running.notebooks import run_notebook, tell_products


def train(run: Experiment, overrides: dict) -> None:
    """Run 03 for each network of an experiment, and write networks.json: what each was trained on.

    Those stay that settings, labels and code would make again; so a training that was stopped goes on with
    the network that it had begun.
    """
    from defectmill.prediction.ensemble import read_members

    notes = read_members(run)
    for network in () if run.members else run.networks:
        one = run.model_copy(update={"network": network})
        stamp = one.training_folder / "trained.json"
        note = json.loads(stamp.read_text()) if stamp.is_file() else {}
        has_network = (one.training_folder / "model.keras").is_file()
        if has_network and note.get("made_from") == provenance.hash_training(one):
            print(f"03_train {run.name}: network {network} stands")
        else:
            run_notebook("03_train", one, {"overrides": {**overrides, "network": network}})
            note = json.loads(stamp.read_text())
        notes[network] = note
    path, text = run.output / "networks.json", json.dumps(notes, indent=1) + "\n"
    files.write_if_changed(path, text)
    if not run.members:  # an ensemble asks at every make, and its masks change with its members alone
        path.touch()


def run_ablation(run: Experiment, overrides: dict) -> None:
    """Run the arms of an ablation that have not run as they would now, and write ablation.csv after each."""
    from defectmill.evaluation import ablation

    arms, done = ablation.read_arms(run.name), dict[str, Experiment]()
    for name, changes in arms.items():
        values = {**overrides, **changes, "variant": name, "training.last_fit": 0, "training.previews": 0}
        try:
            arm = load_experiment(run.name, values)
        except ConfigError as error:
            if "does not apply" not in str(error):
                raise
            print(f"{name} is left out: {error}")
            continue
        if name == ablation.BASELINE:
            run_notebook("02_labels", arm, {"overrides": values})
        else:
            ablation.copy_from(done[ablation.BASELINE], arm)
        if not ablation.has_run(arm):
            train(arm, values)
            run_notebook("04_predict", arm, {"overrides": values})
            ablation.note_run(arm)
        done[name] = arm
        table = ablation.make_table(done, arms)
        table.to_csv(run.output / "ablation.csv", index=False)
    print(table.round(3).to_string(index=False))


def infer(run: Experiment, overrides: dict, images: str, out: str) -> None:
    """Run 06 on a folder of images; what it cannot do is said before the kernel starts."""
    from defectmill.prediction.inspection import check_inspection

    _, target = check_inspection(run, images, out)
    run_notebook("06_infer", run, {"overrides": overrides, "images": images, "out": out})
    tell_products([target])
