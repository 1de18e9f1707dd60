"""LitServe with dynamic batches, as its documentation shows it."""

import io
import os
import sys

import litserve
import numpy as np
from PIL import Image

LABELS = ["Boot", "Sandal", "Shoe"]


class Classifier(litserve.LitAPI):
    def setup(self, device):
        import keras
        import tensorflow as tf

        model = keras.models.load_model(os.environ["MODEL_H5"], compile=False)
        self.side, self.tf = model.input_shape[1], tf
        shape = tf.TensorSpec((None, self.side, self.side, 3), tf.float32)
        self.call = tf.function(lambda x: model(x, training=False), [shape])
        self.call(tf.zeros((1, self.side, self.side, 3)))

    def decode_request(self, request, **context):
        file = request if hasattr(request, "file") else request["request"]
        image = Image.open(io.BytesIO(file.file.read())).convert("RGB").resize((self.side, self.side))
        return np.asarray(image, "float32")

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, inputs):
        return self.call(self.tf.constant(inputs)).numpy()

    def unbatch(self, output):
        return list(output)

    def encode_response(self, scores):
        return {"predicted_class": LABELS[scores.argmax()], "confidence": float(scores.max())}


if __name__ == "__main__":
    api = Classifier(max_batch_size=16, batch_timeout=0.003, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
