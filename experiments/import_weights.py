"""Write the weights of the backbone as a Keras file, from which `train --start` begins.

    python experiments/import_weights.py WEIGHTS.npz OUT.h5

The archive has `LAYER/kernel` and `LAYER/bias` for each convolution of `architecture.build`; batch
normalisations are folded into these.
"""

import sys
from pathlib import Path

import numpy as np

from shoe_classifier.ml import architecture, bundle
from shoe_classifier.ml.dataset import IMAGE_SIZE

CLASSES = 3  # `train` does not take it from the file


def main() -> None:
    """Convert the archive."""
    source, out = map(Path, sys.argv[1:])
    model = architecture.build(IMAGE_SIZE, CLASSES)
    with np.load(source) as arrays:
        for layer in model.layers[:-1]:
            if layer.weights:
                layer.set_weights([arrays[f"{layer.name}/{part}"].astype(np.float32) for part in ("kernel", "bias")])
    architecture.round_weights(model)
    model.save(out, include_optimizer=False)
    bundle.repack(out)


if __name__ == "__main__":
    main()
