import numpy as np
import pytest

from helpers.model import random_pictures, small_stages
from shoe_classifier.ml import architecture
from shoe_classifier.ml.backbone import Backbone


def test_weights_stay_below_four_megabytes() -> None:
    assert architecture.build(128, 3).count_params() * 4 <= 4_000_000


def test_layer_names_are_those_of_the_model_files() -> None:
    names = [layer.name for layer in architecture.build(32, 3, small_stages()).layers]
    assert names[2:5] == ["stem_conv", "stem_norm", "stem_relu"]
    assert {"block1_expand_conv", "block1_depth_norm", "block1_project_conv", "block1_project_norm"} <= set(names)
    assert names[-4:] == ["top_relu", "feature_map", "features", "head"]


def test_lower_and_upper_part_make_the_whole() -> None:
    model = architecture.build(32, 3, small_stages(), width=8)
    pictures = random_pictures(5, 32, 2).images.astype(np.float32)
    latents = architecture.call_in_batches(architecture.lower(model), pictures, batch=2)
    features = architecture.call_in_batches(architecture.upper(model), latents)
    kernel, bias = model.get_layer("head").get_weights()
    logits = features @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(architecture.call_in_batches(model, pictures), expected, atol=1e-4)


def test_the_compiled_backbone_gives_what_keras_gives() -> None:
    model = architecture.build(32, 3, small_stages(), width=8)
    backbone = Backbone(architecture.compile_backbone(model))
    picture = random_pictures(1, 32, 1).images[0]
    features, latent = backbone.features_and_latent(picture)
    expected = architecture.call_in_batches(architecture.lower(model), picture[None].astype(np.float32))
    assert np.allclose(latent, expected[0], atol=1e-3)
    assert np.allclose(features, architecture.call_in_batches(architecture.upper(model), expected)[0], atol=1e-3)


def test_copying_weights_leaves_the_head() -> None:
    source, target = architecture.build(32, 5, small_stages()), architecture.build(48, 2, small_stages())
    head = target.get_layer("head").get_weights()[0]
    architecture.copy_weights(source, target)
    assert np.array_equal(target.get_layer("top_conv").get_weights()[0], source.get_layer("top_conv").get_weights()[0])
    assert np.array_equal(target.get_layer("head").get_weights()[0], head)


@pytest.mark.parametrize(("blocks", "frozen"), [(0, set()), (1, {"stem", "block0"}), (2, {"stem", "block0", "block1"})])
def test_freezing_counts_residual_blocks(blocks: int, frozen: set[str]) -> None:
    model = architecture.build(32, 2, small_stages())
    architecture.freeze(model, blocks)
    found = {layer.name.split("_")[0] for layer in model.layers if layer.weights and not layer.trainable}
    assert found == frozen
