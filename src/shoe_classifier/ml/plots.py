"""Metrics as pictures: confusion matrix and per-class bars; the worst mistakes."""

import io
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from shoe_classifier.ml.preprocessing import thumbnail

_CELL, _MARGIN, _LABELS, _BAR = 56, 24, 150, 260
_INK, _PAPER, _FAINT = (30, 30, 40), (255, 255, 255), (225, 228, 235)
_BLUE, _BARS = (40, 90, 170), ((40, 90, 170), (90, 160, 120), (220, 140, 50))
_MEASURES = ("precision", "recall", "f1")
_LONGEST = 18  # characters of a label
_COLUMNS, _TILE = 4, 200  # of the sheet of mistakes


def draw_report(title: str, metrics: dict[str, Any]) -> bytes:
    """Draw metrics as `evaluation.evaluate` gives them; returns a PNG."""
    names = list(metrics["per_class"])
    size = len(names) * _CELL
    width = 2 * _MARGIN + max(_LABELS + size, _LABELS + _BAR + 60, 420)
    bars_top = _MARGIN + 90 + size + 60
    image = Image.new("RGB", (width, bars_top + 40 + len(names) * 50 + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(17), ImageFont.load_default(12)
    pen.text((_MARGIN, _MARGIN), title[:60], _INK, large)
    summary = f"accuracy {metrics['accuracy']:.3f}   macro-F1 {metrics['macro_f1']:.3f}   ECE {metrics['ece']:.3f}"
    pen.text((_MARGIN, _MARGIN + 26), f"{summary}   {metrics['samples']} held-out pictures", _INK, small)
    _matrix(pen, (_MARGIN + _LABELS, _MARGIN + 90), names, metrics["confusion_matrix"], small)
    _bars(pen, (_MARGIN, bars_top), metrics["per_class"], small)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def draw_mistakes(mistakes: list[dict[str, Any]], files: dict[str, bytes]) -> bytes:
    """Draw the misclassified pictures that `evaluation.evaluate` lists, from their bytes by name; returns a PNG."""
    rows = max(1, -(-len(mistakes) // _COLUMNS))
    image = Image.new("RGB", (_MARGIN + _COLUMNS * _TILE, _MARGIN + rows * (_TILE + 40)), _PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    if not mistakes:
        pen.text((_MARGIN, _MARGIN), "No mistakes.", _INK, font)
    for index, mistake in enumerate(mistakes):
        x, y = _MARGIN + index % _COLUMNS * _TILE, _MARGIN + index // _COLUMNS * (_TILE + 40)
        image.paste(thumbnail(files[mistake["picture"]], _TILE - _MARGIN), (x, y))
        pen.text((x, y + _TILE - 20), f"is {mistake['label'][:_LONGEST]}", _INK, font)
        caption = f"called {mistake['predicted_class'][:_LONGEST]}, {mistake['confidence']:.2f}"
        pen.text((x, y + _TILE - 4), caption, _INK, font)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _matrix(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], names: list[str], matrix: list[list[int]], font: Any
) -> None:
    left, top = corner
    pen.text((left, top - 36), "predicted", _INK, font)
    for row, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        y = top + row * _CELL
        pen.text((left - 8, y + _CELL // 2), name[:_LONGEST], _INK, font, anchor="rm")
        pen.text((left + row * _CELL + _CELL // 2, top - 12), name[:7], _INK, font, anchor="mm")
        for column, count in enumerate(counts):
            share = count / max(1, sum(counts))
            x = left + column * _CELL
            shade = tuple(round(p + (b - p) * share) for p, b in zip(_PAPER, _BLUE, strict=True))
            pen.rectangle((x, y, x + _CELL, y + _CELL), fill=shade, outline=_FAINT)
            ink = _PAPER if share > 0.5 else _INK
            pen.text((x + _CELL // 2, y + _CELL // 2), str(count), ink, font, anchor="mm")


def _bars(pen: ImageDraw.ImageDraw, corner: tuple[int, int], per_class: dict[str, dict[str, float]], font: Any) -> None:
    left, top = corner
    for index, (measure, colour) in enumerate(zip(_MEASURES, _BARS, strict=True)):
        pen.text((left + _LABELS + index * 90, top), measure, colour, font)
    for row, (name, figures) in enumerate(per_class.items()):
        y = top + 30 + row * 50
        pen.text((left + _LABELS - 8, y + 20), name[:_LONGEST], _INK, font, anchor="rm")
        for index, (measure, colour) in enumerate(zip(_MEASURES, _BARS, strict=True)):
            x, line = left + _LABELS, y + index * 13
            pen.rectangle((x, line, x + _BAR, line + 10), fill=_FAINT)
            pen.rectangle((x, line, x + round(_BAR * figures[measure]), line + 10), fill=colour)
            pen.text((x + _BAR + 8, line + 5), f"{figures[measure]:.3f}", _INK, font, anchor="lm")
