"""MLflow itself, on a local store: what stands there, and that it stands there once."""

from __future__ import annotations

import fake_suite
import pytest

import aimonk_bench as ab
from aimonk_bench import cli
from aimonk_bench.errors import UserError
from aimonk_bench.records import run as runs
from aimonk_bench.trackers import content

mlflow = pytest.importorskip("mlflow", reason="needs the extra [mlflow]")
pytest.importorskip("sqlalchemy", reason="needs the extra [mlflow]")
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow warns of the versions of its own packages


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A suite of two runs, one of which failed; MLflow keeps files below the working directory."""
    monkeypatch.chdir(tmp_path)
    done, failed = fake_suite.write_suite(tmp_path / "comparison", ["masked_bce", "hill"])
    fake_suite.write_run(done, "masked_bce", fake_suite.predictions(["a b", "c"]))
    fake_suite.write_failed(failed, "hill", "loss is not finite at epoch 3")
    return ab.Suite(tmp_path / "comparison")


def stored(uri):
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("comparison")
    return client, {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_a_suite_is_logged_once_however_often(suite, tmp_path):
    uri, report = f"sqlite:///{tmp_path}/store.db", tmp_path / "report.html"
    report.write_text("<p>report</p>")
    asked = ["log", str(suite.folder), "--to", "mlflow", "--uri", uri, "--artifact", str(report)]
    for _ in range(2):
        assert cli.main(asked) == 0
        client, logged = stored(uri)
        assert set(logged) == {"comparison", "masked_bce", "hill"}
        parent, done, failed = (logged[name] for name in ("comparison", "masked_bce", "hill"))
        assert {run.data.tags["mlflow.parentRunId"] for run in (done, failed)} == {parent.info.run_id}
        assert (done.info.status, failed.info.status) == ("FINISHED", "FAILED")
        assert failed.data.tags["aimonk_bench.failure"] == "loss is not finite at epoch 3"
        [tracked, _] = content.tracked(suite._figures)
        assert done.data.params == dict(tracked.parameters)
        assert {key: done.data.metrics[key] for key in tracked.figures} == tracked.figures
        history = client.get_metric_history(done.info.run_id, "training_loss")
        assert [(point.step, point.value) for point in history] == [(1, 0.7), (2, 0.6)]
        assert len(client.get_metric_history(done.info.run_id, "f1_tuned/a_b")) == 1
        assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}
        assert runs.CONFIG in {file.path for file in client.list_artifacts(done.info.run_id)}


def test_a_changed_parameter_is_named_and_the_rest_is_logged(suite, tmp_path, caplog):
    uri = f"sqlite:///{tmp_path}/store.db"
    ab.log(suite, to="mlflow", uri=uri)
    config = suite.finished[0].folder / runs.CONFIG
    config.write_text(config.read_text().replace("name: fake", "name: other\nnew: 1"))
    ab.log(ab.load(suite.folder), to="mlflow", uri=uri)
    assert "mlflow: name of run" in caplog.text
    _, logged = stored(uri)
    assert (logged["masked_bce"].data.params["name"], logged["masked_bce"].data.params["new"]) == ("fake", "1")


def test_a_store_that_refuses_is_an_error_for_the_user(suite):
    with pytest.raises(UserError, match="mlflow: "):
        ab.log(suite, to="mlflow", uri="nothing://store")
