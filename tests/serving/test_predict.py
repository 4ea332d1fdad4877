"""Predictions: one for each image in input order, whatever the batch, the order, the threads."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import bundles
import numpy as np
import pytest
from PIL import Image

from aimonk_bench.backbones import threads
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.serving.graph import open_classifier
from aimonk_bench.serving.images import Item
from aimonk_bench.serving.predict import NOT_FINITE, Prediction, predict, stream


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def logits(predictions: Iterator[Prediction]) -> np.ndarray:
    return np.array([prediction.logits for prediction in predictions])


def test_predictions_are_those_of_the_network(bundle: Path, photos: Path, noise: np.ndarray) -> None:
    predictions = [*predict(bundle, paths(photos))]
    expected = bundles.expected_logits(noise)
    assert [prediction.image for prediction in predictions] == [str(path) for path in paths(photos)]
    np.testing.assert_allclose(logits(iter(predictions)), expected, rtol=1e-4, atol=1e-4)
    for prediction in predictions:
        assert prediction.error is None
        np.testing.assert_array_equal(prediction.probabilities, sigmoid(prediction.logits))
        np.testing.assert_array_equal(prediction.decisions, prediction.probabilities > np.array(bundles.THRESHOLDS))
    decided = np.array([prediction.decisions for prediction in predictions])
    assert 0 < decided.sum() < decided.size


@pytest.mark.parametrize(("batch", "cores"), [(1, 1), (3, 2), (8, 5), (64, 2)])
def test_batch_order_and_threads_change_nothing(
    bundle: Path, photos: Path, batch: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: cores)
    files = paths(photos)
    order = np.random.default_rng(batch).permutation(len(files))
    shuffled = logits(predict(bundle, [files[n] for n in order], batch=batch))
    np.testing.assert_allclose(shuffled, logits(predict(bundle, files))[order], rtol=0, atol=1e-4)


def test_paths_arrays_and_pillow_images_may_be_mixed(bundle: Path, photos: Path, noise: np.ndarray) -> None:
    file = paths(photos)[7]
    predictions = [*predict(bundle, [file, noise[7], Image.fromarray(noise[7]), Image.open(file), str(file)])]
    assert [prediction.image for prediction in predictions] == [str(file), "[1]", "[2]", str(file), str(file)]
    assert len({prediction.logits.tobytes() for prediction in predictions}) == 1


def test_an_image_that_cannot_be_read_is_a_prediction_with_its_error(bundle: Path, photos: Path) -> None:
    files = paths(photos)
    predictions = [*predict(bundle, [files[0], photos / "absent.png", files[1], photos])]
    assert [prediction.error for prediction in predictions] == [None, "missing", None, "a folder, expected an image"]
    assert np.isnan(predictions[1].logits).all()
    assert np.isnan(predictions[1].probabilities).all()
    np.testing.assert_array_equal(predictions[2].logits, next(predict(bundle, [files[1]])).logits)


def test_one_path_is_one_image(bundle: Path, photos: Path) -> None:
    assert len([*predict(bundle, photos / "00.png")]) == len([*predict(bundle, str(photos / "00.png"))]) == 1
    assert [*predict(bundle, [])] == []


def test_what_is_wrong_is_told_before_the_first_image(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean animal"):
        predict(bundle, iter(()), thresholds={"animl": 0.5})
    with pytest.raises(UserError, match="batch: found 0"):
        predict(bundle, [], batch=0)
    with pytest.raises(UserError, match="found no"):
        predict(tmp_path / "absent", [])


def test_other_thresholds_decide(bundle: Path, noise: np.ndarray) -> None:
    [low, high] = ([*predict(bundle, noise, thresholds={"NA": value})] for value in (0.0, 1.0))
    assert all(prediction.decisions[2] for prediction in low)
    assert not any(prediction.decisions[2] for prediction in high)
    assert low[0].thresholds.tolist() == [0.5, 0.4, 0.0]


def test_a_decision_is_strict_and_in_float64(bundle: Path, noise: np.ndarray) -> None:
    [prediction] = predict(bundle, noise[:1])
    at = float(prediction.probabilities[0])
    [same] = predict(bundle, noise[:1], thresholds={"animal": at})
    [below] = predict(bundle, noise[:1], thresholds={"animal": float(np.nextafter(at, 0))})
    assert (bool(same.decisions[0]), bool(below.decisions[0])) == (False, True)


def test_images_are_drawn_as_they_are_needed(bundle: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million images are never in memory: at most two batches for each core wait, and the batch in the making."""
    monkeypatch.setattr(threads, "cores", lambda: 2)
    drawn, caller = [], threading.get_ident()

    def endless() -> Iterator[np.ndarray]:
        for n in itertools.count():
            assert threading.get_ident() == caller
            drawn.append(n)
            yield noise[n % len(noise)]

    predictions = predict(bundle, endless(), batch=4)
    for n in range(50):
        next(predictions)
        assert len(drawn) <= n + 1 + 4 * (2 * 2 + 1) + 4
    predictions.close()  # type: ignore[attr-defined]  # a generator


def test_after_a_pause_everything_so_far_is_predicted(bundle: Path, noise: np.ndarray) -> None:
    classifier, drawn = open_classifier(bundle), []

    def arriving() -> Iterator[Item | None]:
        for n in range(3):
            drawn.append(n)
            yield Item(str(n), pixels=noise[n])
        yield None
        drawn.append("later")
        yield Item("3", pixels=noise[3])

    predictions = stream(classifier, classifier.encoder(8), arriving(), LibraryMessages())
    assert [next(predictions).image for _ in range(3)] == ["0", "1", "2"]
    assert "later" not in drawn  # three of a batch of eight were enough
    assert [prediction.image for prediction in predictions] == ["3"]


def test_a_logit_that_is_not_finite_is_an_error(tmp_path: Path, noise: np.ndarray) -> None:
    folder = bundles.write_bundle(tmp_path / "b")
    bundles.write_model(folder / "model.onnx", bundles.metadata(), bias=float("inf"))
    [prediction] = predict(folder, noise[:1])
    assert prediction.error == NOT_FINITE
    assert np.isnan(prediction.logits).all()


def test_progress_counts_images(bundle: Path, noise: np.ndarray) -> None:
    calls: list[tuple[str, int, int | None]] = []
    for images in (noise[:3], iter(noise[:3])):
        list(predict(bundle, images, progress=lambda *call: calls.append(call)))
    counted = [("predict", n, 3) for n in (1, 2, 3)]
    assert calls == [*counted, *[(phase, n, None) for phase, n, _ in counted], ("predict", 3, 3)]


def test_two_bundles_may_predict_in_turns(bundle: Path, noise: np.ndarray, tmp_path: Path) -> None:
    other = bundles.write_bundle(tmp_path / "other", names=("x",), thresholds=(0.5,))
    pairs = list(zip(predict(bundle, noise[:20]), predict(other, noise[:20]), strict=True))
    assert [(len(one.attributes), len(two.attributes)) for one, two in pairs] == [(3, 1)] * 20


def test_how_files_were_read_is_told_at_the_end(bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("CMYK", (40, 40)).save(tmp_path / "inks.jpg")
    with caplog.at_level(logging.WARNING):
        list(predict(bundle, [tmp_path / "inks.jpg"] * 3))
    [message] = caplog.messages
    assert "inks.jpg: a CMYK image" in message
    assert "(3 such messages)" in message
