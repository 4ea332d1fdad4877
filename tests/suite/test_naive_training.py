"""The stored features, the stacked heads and the files against loops without any of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import timm
import torch
from small_suite import no_progress, planned, rows_of

from aimonk_bench import cli
from aimonk_bench.backbones import network as networks
from aimonk_bench.data import images, splits
from aimonk_bench.suite import runner
from aimonk_bench.suite.clock import Clock
from aimonk_bench.training import batches, heads, samplers


def test_the_reference_recipe_on_the_aimonk_data(aimonk: Path, workplace: Path) -> None:
    """The split and the record of what was skipped, at a small image size."""
    reference = Path(__file__).parents[2] / "configs" / "reference.yaml"
    sets = [f"data.labels={aimonk / 'labels.txt'}", f"data.images={aimonk / 'images'}", "data.on_bad_image=skip"]
    sets += ["backbone={name: tf_efficientnet_lite0}", "transform.size=32"]
    out = workplace / "reference"
    assert (
        cli.main(["run", str(reference), "--out", str(out), "--quiet", *(w for s in sets for w in ("--set", s))]) == 0
    )
    content = json.loads((out / "data.json").read_text())
    assert (content["n_listed"], content["n_used"], len(content["skipped"])) == (975, 972, 3)
    history = rows_of(out / "history.csv")
    assert len(history) == -(-content["folds"][0]["train"] // 16) * 5
    assert list(history[0])[:5] == ["seed", "fold", "iteration_number", "epoch", "training_loss"]


def test_training_from_the_store_equals_decoding_and_encoding_every_image_in_every_epoch(workplace: Path) -> None:
    """A naive loop: one nn.Linear, and for every batch the images are read, flipped, normalised and encoded anew."""
    run = planned(workplace / "small.yaml", "split={scheme: holdout}", "train.seeds=[3]", "train.lr=0.01")
    out, config = workplace / "stored", run.baseline.config
    runner.execute_run(run, out, Clock(), no_progress)
    listed, weights = run.dataset.listed, run.baseline.encoder.weights
    labels = listed.labels
    network = timm.create_model(weights.entry.timm, pretrained=False, num_classes=0).eval()
    network.load_state_dict(networks.build(weights, 32).network.state_dict())

    def encode(rows: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        read = [images.decode((config.data.images / listed.ids[n]).read_bytes(), 32, "bicubic") for n in rows]
        seen = [pixels[:, ::-1] if flip else pixels for pixels, flip in zip(read, flips, strict=True)]
        normal = (np.stack(seen).astype(np.float32) / 255 - 0.5) / 0.5
        with torch.no_grad():
            return network(torch.from_numpy(normal).permute(0, 3, 1, 2))

    sha256 = [image.sha256 for image in run.dataset.images]
    (fold,) = splits.split(config.split, labels, splits.components(sha256, None))
    rngs = batches.HeadRngs.of(3, 0)
    start = heads.Heads.initial(4, 1280, [rngs.init])
    head = torch.nn.Linear(1280, 4)
    positive, negative = (counts + 0.5 for counts in labels[fold.train].counts())
    head.weight.data, head.bias.data = start.weight[0].detach(), torch.from_numpy(np.log(positive / negative)).float()
    decays = {head.weight: config.train.weight_decay / 4, head.bias: 0.0}  # the loss is a mean over four attributes
    groups = [{"params": [parameter], "weight_decay": decay} for parameter, decay in decays.items()]
    optimizer = torch.optim.Adam(groups, lr=0.01)
    steps, losses, ends = -(-len(fold.train) // 16), [], []
    for _ in range(2):
        drawn = batches.EpochBatches.draw(
            samplers.uniform, labels, [fold.train], [rngs], np.array([0.5, 0.5]), (steps, 16)
        )
        for rows, views in zip(drawn.images[:, 0], drawn.views[:, 0], strict=True):
            logits = head(encode(rows, views == 1))
            mask = torch.from_numpy(labels.observed[rows])
            truth = torch.from_numpy(labels.targets[rows]).float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[mask], truth[mask])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        ends.append([parameter.detach().clone() for parameter in head.parameters()])
    averaged = [0.2 * first + 0.8 * second for first, second in zip(*ends, strict=True)]  # 1 x 2 x 3 to 2 x 3 x 4
    losses_of_run = [float(row["training_loss"]) for row in rows_of(out / "history.csv")]
    np.testing.assert_allclose(losses_of_run, losses, rtol=1e-3)
    saved = np.load(out / "predictions.npz")
    with torch.no_grad():
        wanted = torch.nn.functional.linear(encode(fold.test, np.zeros(len(fold.test), bool)), *averaged).numpy()
    np.testing.assert_allclose(saved["logits"][0, saved["split"] == "test"], wanted, rtol=1e-3, atol=1e-3)
    assert saved["image_id"][saved["split"] == "test"].tolist() == [listed.ids[n] for n in fold.test]
