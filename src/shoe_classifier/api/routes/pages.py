"""Pages of the service's own: `/`, from which a visitor goes on, and `/camera`, which classifies what a camera sees."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent.parent / "pages"
_POLICY = (
    "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; base-uri 'none'"
)


@router.get("/")
def get_start_page() -> HTMLResponse:
    return _page("start.html")


@router.get("/camera")
def get_camera_page() -> HTMLResponse:
    return _page("camera.html")


def _page(name: str) -> HTMLResponse:
    return HTMLResponse((_FOLDER / name).read_text("utf-8"), headers={"Content-Security-Policy": _POLICY})
