"""FastAPI and TensorFlow, written with care: a traced function on FastAPI's thread pool, no `model.predict`."""

import io
import os

import keras
import numpy as np
import tensorflow as tf
from fastapi import FastAPI, UploadFile
from PIL import Image

MODEL = keras.models.load_model(os.environ["MODEL_H5"], compile=False)
SIDE = MODEL.input_shape[1]
LABELS = ["Boot", "Sandal", "Shoe"]
CALL = tf.function(lambda x: MODEL(x, training=False), [tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32)])
CALL(tf.zeros((1, SIDE, SIDE, 3)))
app = FastAPI()


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, object]:
    image = Image.open(io.BytesIO(file.file.read())).convert("RGB").resize((SIDE, SIDE))
    scores = CALL(tf.constant(np.asarray(image, "float32")[None])).numpy()[0]
    return {"predicted_class": LABELS[scores.argmax()], "confidence": float(scores.max())}
