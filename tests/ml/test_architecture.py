import os

import keras
import numpy as np
import pytest

from helpers.model import random_pictures, small_stages
from shoe_classifier.ml import architecture
from shoe_classifier.ml.backbone import Backbone


def test_it_is_the_whole_efficientnet_lite0() -> None:
    model = architecture.build(128, 3)
    assert 3_300_000 < model.count_params() < 3_400_000
    assert sum(layer.name.endswith("_depth") for layer in model.layers) == 16
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


def test_layer_names_are_those_of_the_model_files() -> None:
    names = [layer.name for layer in architecture.build(32, 3, small_stages()).layers]
    assert names[2:4] == ["stem", "stem_relu"]
    assert {"block1_expand", "block1_expand_relu", "block1_depth", "block1_project", "block3_add", "latent"} <= set(
        names
    )
    assert names[-5:] == ["top", "top_relu", "feature_map", "features", "head"]


def test_weights_in_half_precision_take_half_the_room_and_compile_exactly() -> None:
    model = architecture.build(32, 3, small_stages(), width=512)
    head = model.get_layer("head").get_weights()[0]
    architecture.round_weights(model)
    weights = [weight for layer in model.layers[:-1] for weight in layer.get_weights()]
    assert all(np.array_equal(weight, weight.astype(np.float16).astype(np.float32)) for weight in weights)
    assert np.array_equal(model.get_layer("head").get_weights()[0], head)
    flatbuffer = architecture.compile_backbone(model)
    assert len(flatbuffer) < 3 * sum(weight.size for weight in weights)  # bytes; 4 each in single precision


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
    assert np.array_equal(target.get_layer("top").get_weights()[0], source.get_layer("top").get_weights()[0])
    assert np.array_equal(target.get_layer("head").get_weights()[0], head)


@pytest.mark.parametrize(("blocks", "frozen"), [(0, set()), (1, {"stem", "block0"}), (2, {"stem", "block0", "block1"})])
def test_freezing_counts_residual_blocks(blocks: int, frozen: set[str]) -> None:
    model = architecture.build(32, 2, small_stages())
    architecture.freeze(model, blocks)
    found = {layer.name.split("_")[0] for layer in model.layers if layer.weights and not layer.trainable}
    assert found == frozen


def test_a_gpu_is_not_hidden_and_its_memory_is_taken_as_needed() -> None:
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != "-1"
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
