"""Events that TensorBoard itself reads."""

from __future__ import annotations

import fake_suite
import numpy as np
import pytest

import aimonk_bench as ab
from aimonk_bench import cli
from aimonk_bench.trackers import content

accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra [tensorboard]"
)


def test_a_run_is_written_once_however_often(tmp_path):
    fake_suite.write_run(tmp_path / "one", "one", fake_suite.predictions(["a b", "c"]))
    run = ab.Run(tmp_path / "one")
    [tracked] = content.tracked(run._figures)
    for _ in range(2):
        assert cli.main(["log", str(run.folder), "--to", "tensorboard", "--uri", str(tmp_path / "events")]) == 0
        [place] = (tmp_path / "events").iterdir()
        assert place.name == run.id
        [events] = place.glob("events.*")
        read = accumulators.EventAccumulator(str(events)).Reload()
        assert set(read.Tags()["scalars"]) == {*tracked.figures, *tracked.curves}
        losses = [(event.step, event.value) for event in read.Scalars("training_loss")]
        np.testing.assert_allclose(losses, [(1, 0.7), (2, 0.6)], rtol=1e-6)
        [value] = read.Scalars("f1_tuned/a_b")
        assert value.value == pytest.approx(tracked.figures["f1_tuned/a_b"])
        assert len(list((place / "hparams").iterdir())) == 1
