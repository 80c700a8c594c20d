"""A game in an OpenCV window, where there is a display."""

from __future__ import annotations

import os
import sys
from types import TracebackType

import numpy as np

TITLE = "embodied-mem"
# Codes of waitKeyEx on X11 (Qt and GTK), Windows and macOS.
CODES = {
    65361: "left",
    65362: "up",
    65363: "right",
    65364: "down",
    65365: "pageup",
    65366: "pagedown",
    2424832: "left",
    2490368: "up",
    2555904: "right",
    2621440: "down",
    63234: "left",
    63232: "up",
    63235: "right",
    63233: "down",
    13: "enter",
    10: "enter",
    32: "space",
    27: "escape",
}


class Window:
    """Shows pictures and reads keys; use it as a context."""

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import cv2

        cv2.destroyAllWindows()

    def show(self, image: np.ndarray, below: str) -> None:
        """Draw a picture (H, W, 3) uint8 RGB with a line of text below."""
        import cv2

        strip = np.full((28, image.shape[1], 3), 235, np.uint8)
        size = 0.45
        while cv2.getTextSize(below, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] > image.shape[1] - 16 and size > 0.25:
            size -= 0.02
        cv2.putText(strip, below, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, size, (40, 40, 40), 1, cv2.LINE_AA)
        cv2.imshow(TITLE, np.concatenate([image, strip])[..., ::-1])
        cv2.waitKey(1)

    def key(self, seconds: float | None = None) -> str:
        """Return the name of the next key; "" when none came within ``seconds``; "escape" once the window is closed."""
        import cv2

        waited = 0.0
        while seconds is None or waited < seconds or waited == 0.0:
            slice_ms = 50 if seconds is None else max(1, min(50, round(1000 * (seconds - waited))))
            code = cv2.waitKeyEx(slice_ms)
            waited += slice_ms / 1000
            if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
                return "escape"
            if code >= 0:
                return CODES.get(code, CODES.get(code & 0xFFFF, chr(code & 0xFF).lower()))
        return ""


def usable() -> bool:
    """Return whether a display and an OpenCV with windows are there."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import cv2

    try:
        cv2.namedWindow(TITLE)
    except cv2.error:
        return False
    return True
