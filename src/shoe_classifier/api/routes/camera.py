"""`/camera`: a page that classifies what a camera sees, and records pictures to teach from."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_PAGE = Path(__file__).parent.parent / "pages" / "camera.html"
_POLICY = (
    "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; base-uri 'none'"
)


@router.get("/camera")
def get_camera_page() -> HTMLResponse:
    return HTMLResponse(_PAGE.read_text("utf-8"), headers={"Content-Security-Policy": _POLICY})
